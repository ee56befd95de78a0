"""Fixtures for every test: one real broker and one real Postgres for the whole session, started when first needed.

`JOBLEDGER_TEST_BOOTSTRAP` and `JOBLEDGER_TEST_DSN` name servers that already run (see `python -m jobledger.dev.stack`);
then none is started. Tests share them and keep apart by their own `cell` and their own database.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from jobledger.dev.jars import default_cache_dir
from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.ports import free_port
from jobledger.dev.postgres import EmbeddedPostgres, create_database

BOOTSTRAP_VARIABLE = "JOBLEDGER_TEST_BOOTSTRAP"
DSN_VARIABLE = "JOBLEDGER_TEST_DSN"


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A directory for servers' data; unlike pytest's own, other users may pass (Postgres does not run as root)."""
    with tempfile.TemporaryDirectory(prefix="jobledger-test-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def session_broker(server_dir: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(server_dir / "kafka", free_port(), free_port(), default_cache_dir())
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka_broker(session_broker: KafkaBroker) -> KafkaBroker:
    """The session's own broker, running; a test may kill, stop and start it."""
    session_broker.start()
    return session_broker


@pytest.fixture
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Where the tests' broker answers."""
    if given := os.environ.get(BOOTSTRAP_VARIABLE):
        return given
    broker: KafkaBroker = request.getfixturevalue("kafka_broker")
    return broker.bootstrap_servers


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of its own for each test; the topics that start with it are deleted afterwards."""
    name = f"t{uuid.uuid4().hex[:7]}"
    yield name
    if "bootstrap_servers" in request.fixturenames or "kafka_broker" in request.fixturenames:
        _delete_topics(request, name)


def _delete_topics(request: pytest.FixtureRequest, prefix: str) -> None:
    broker: KafkaBroker | None = None
    if "kafka_broker" in request.fixturenames or not os.environ.get(BOOTSTRAP_VARIABLE):
        broker = request.getfixturevalue("session_broker")
    if broker is not None and not broker.running:
        return
    servers = broker.bootstrap_servers if broker is not None else os.environ[BOOTSTRAP_VARIABLE]
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        topics = [topic for topic in admin.list_topics(timeout=5).topics if topic.startswith(prefix)]
        if topics:
            for deletion in admin.delete_topics(topics, operation_timeout=5).values():
                deletion.result(10)
    except KafkaException:
        return  # tidying up only: a broker that a test left unwell is started afresh for the next one


@pytest.fixture(scope="session")
def session_postgres(server_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(server_dir / "postgres", free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres(session_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The session's own Postgres, running; a test may kill, stop and start it."""
    session_postgres.start()
    return session_postgres


@pytest.fixture
def postgres_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh, empty database for each test, dropped afterwards."""
    server: EmbeddedPostgres | None = None
    admin_dsn = os.environ.get(DSN_VARIABLE, "")
    if "postgres" in request.fixturenames or not admin_dsn:
        server = request.getfixturevalue("postgres")
        admin_dsn = server.dsn_of("postgres")
    name = f"t_{uuid.uuid4().hex[:12]}"
    create_database(admin_dsn, name)
    yield make_conninfo(admin_dsn, dbname=name) if server is None else server.dsn_of(name)
    if server is not None:
        server.start()
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
