"""Numbered, forward-only migrations of the schema that holds the read models.

A file that begins with `-- additive` makes what a release before does not miss and does not touch: new tables, columns
with a default. It is noted in `additions`, which earlier releases do not read; they refuse a schema that is newer than
themselves by what stands in `migrations`.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import NamedTuple

import psycopg
from psycopg import sql

from jobledger.telemetry.logs import get_logger

log = get_logger()

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
LOCK_TIMEOUT = "60s"
_ADDITIVE = "-- additive"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS {}"
    " (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL)"
)


class MigrationError(RuntimeError):
    """The database is not one that this release can work with; the message says what to do."""


class Migration(NamedTuple):
    """One file of `migrations/`."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Tells an edited file from the one that was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def noted_in(self) -> str:
        """The table that says whether it was applied."""
        return "additions" if self.text.startswith(_ADDITIVE) else "migrations"


def migrations() -> list[Migration]:
    """The migrations of this release, in order; their numbers are 1, 2, 3 …"""
    found = []
    for file in (resources.files("jobledger.projections") / "migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort()
    assert [m.number for m in found] == list(range(1, len(found) + 1)), "migrations are numbered without a gap"
    return found


def migrate(dsn: str, schema: str) -> int:
    """Bring `schema` to this release, making it when it doesn't exist; returns the number of the last migration.

    Several processes may call it at once: one works, the others wait up to 60 s. Raises MigrationError when
    the schema is newer than this release or was made from other files, and psycopg.Error.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_TIMEOUT))
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"jobledger/{schema}"])
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        connection.execute("SET client_min_messages = warning")
        for table in ("migrations", "additions"):
            connection.execute(sql.SQL(_TABLE).format(sql.Identifier(table)))
        return _apply(connection, schema)


def _apply(connection: psycopg.Connection, schema: str) -> int:
    applied: dict[int, str] = dict(connection.execute("SELECT number, checksum FROM migrations").fetchall())
    known = migrations()
    _check_age(applied, known, schema)
    applied |= dict(connection.execute("SELECT number, checksum FROM additions").fetchall())
    _check_files(applied, known, schema)
    for migration in known:
        if migration.number in applied:
            continue
        with connection.transaction():
            connection.execute(migration.text)
            note = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, now())").format(sql.Identifier(migration.noted_in))
            connection.execute(note, [migration.number, migration.name, migration.checksum])
        log.info("migration_applied", migration=f"{migration.number:04d}_{migration.name}")
    return len(known)


def _check_age(applied: dict[int, str], known: list[Migration], schema: str) -> None:
    newest = max(applied, default=0)
    if newest > len(known):
        raise MigrationError(
            f"Schema '{schema}' is at migration {newest}, but this release knows {len(known)}: "
            f"run the release that made it, or a later one."
        )


def _check_files(applied: dict[int, str], known: list[Migration], schema: str) -> None:
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"Migration {migration.number} ({migration.name}) of schema '{schema}' was made from another file "
                f"than this release has: set JOBLEDGER_POSTGRES_SCHEMA to a new name; the projector fills it."
            )
