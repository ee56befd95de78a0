"""Migrations: once each, in order, by one of many, never backwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from jobledger.projections.columns import columns
from jobledger.projections.migrate import MigrationError, migrate, migrations
from jobledger.projections.tables import TABLES

pytestmark = pytest.mark.postgres


def test_many_processes_at_once_migrate_once(postgres_dsn: str, tables: Any) -> None:
    """Eight start together; each migration is recorded once and all of them find the schema ready."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: migrate(postgres_dsn, "jobledger"), range(8)))
    assert results == [len(migrations())] * 8
    with psycopg.connect(postgres_dsn) as connection:
        for table in ("migrations", "additions"):
            found = connection.execute(f"SELECT number, name FROM jobledger.{table} ORDER BY number").fetchall()
            assert found == [(m.number, m.name) for m in migrations() if m.noted_in == table]


def test_what_is_additive_does_not_keep_a_release_before_from_the_schema(postgres_dsn: str) -> None:
    """It looks at `migrations` alone: what is noted elsewhere makes the schema no newer for it, now or later."""
    migrate(postgres_dsn, "jobledger")
    with psycopg.connect(postgres_dsn) as connection:
        noted = connection.execute("SELECT max(number) FROM jobledger.migrations").fetchone()
        assert noted == (4,), "the last migration that 0.1.0 knows"
        connection.execute("INSERT INTO jobledger.additions VALUES (9999, 'later', '', now())")
    assert migrate(postgres_dsn, "jobledger") == len(migrations())


def test_a_newer_schema_is_refused(postgres_dsn: str) -> None:
    """An older release does not touch what a newer one made."""
    migrate(postgres_dsn, "jobledger")
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("INSERT INTO jobledger.migrations VALUES (9999, 'later', '', now())")
    with pytest.raises(MigrationError, match="at migration 9999, but this release knows"):
        migrate(postgres_dsn, "jobledger")


def test_an_edited_migration_is_refused(postgres_dsn: str) -> None:
    """Migrations only go forward: one that was applied may not change."""
    migrate(postgres_dsn, "jobledger")
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE jobledger.migrations SET checksum = 'other' WHERE number = 1")
    with pytest.raises(MigrationError, match="made from another file"):
        migrate(postgres_dsn, "jobledger")


def test_the_column_tables_are_those_of_the_schema(postgres_dsn: str) -> None:
    """What the writer thinks of columns and types is what the migrations made."""
    migrate(postgres_dsn, "jobledger")
    with psycopg.connect(postgres_dsn) as connection:
        for table in TABLES:
            found = connection.execute(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
                " WHERE table_schema = 'jobledger' AND table_name = %s",
                [table.name],
            ).fetchall()
            assert {name: kind for name, kind, _ in found} == table.types, table.name
            optional = {name for one in columns(table.row) if one.optional for name in one.stored}
            assert {name for name, _, nullable in found if nullable == "YES"} <= optional, table.name
            key = connection.execute(
                "SELECT column_name FROM information_schema.key_column_usage"
                " WHERE table_schema = 'jobledger' AND table_name = %s ORDER BY ordinal_position",
                [table.name],
            ).fetchall()
            assert [name for (name,) in key] == list(table.key), table.name
