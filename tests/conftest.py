"""Fixtures for every test: one real broker and one real Postgres for the whole run, started when first needed.

`JOBLEDGER_TEST_BOOTSTRAP` and `JOBLEDGER_TEST_DSN` name servers that already run (see `python -m jobledger.dev.stack`);
then none is started. Tests, also those of a parallel run (`-n 4`), share them and keep apart by their own `cell` and
their own database. A test that does things to a server asks for `kafka_broker` or `postgres`, which nobody shares.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import stamina
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from jobledger.dev.jars import default_cache_dir
from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.ports import free_port
from jobledger.dev.postgres import EmbeddedPostgres, create_database

stamina.instrumentation.set_on_retry_hooks([])  # as in every role

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)  # processes of workers find sample_handlers through it, as a user's modules

import scenario_marks  # noqa: E402
from shared_servers import KAFKA, POSTGRES, SharedServers, shared_address  # noqa: E402

BOOTSTRAP_VARIABLE = "JOBLEDGER_TEST_BOOTSTRAP"
DSN_VARIABLE = "JOBLEDGER_TEST_DSN"
#: Where workers of a parallel run find the shared servers.
SERVERS_INPUT = "shared_servers"
#: Files whose tests run in one worker, one after the other: those that share a system of their own, and those that do
#: things to the servers of their worker. They come first, in this order, or the last of them would be waited for alone.
GROUPS = {
    "tests/chaos/test_rolling_restarts.py": "chaos",
    "tests/chaos/test_chaos.py": "chaos",
    "tests/upgrade/test_two_builds.py": "upgrade",
    "tests/cli/test_cli_stack.py": "cli-stack",
    "tests/observability/test_live_alerts.py": "live-alerts",
    "tests/conformance/test_transports.py": "own-servers",
    "tests/dev/test_embedded_servers.py": "own-servers",
    "tests/graphql/test_event_gaps.py": "own-servers",
    "tests/processors/test_clock_processes.py": "clocks",
    "tests/graphql/test_graphql_mutations.py": "mutations",
    "tests/graphql/test_graphql_queries.py": "queries",
    "tests/graphql/test_graphql_subscriptions.py": "subscriptions",
    "tests/workers/test_worker_runtime.py": "worker-runtime",
    "tests/workers/test_worker_harm.py": "worker-harm",
    "tests/graphql/test_graphql_http.py": "http",
    "tests/graphql/test_graphql_hostile.py": "http",
    "tests/graphql/test_queue_directory.py": "directory",
    "tests/processors/test_idle_owners.py": "own-servers",
    "tests/projections/test_projector_outages.py": "own-servers",
    "tests/workers/test_worker_lease.py": "own-servers",
    "tests/replay/test_verify.py": "verify",
    "tests/client/test_client_reads_its_writes.py": "client",
    "tests/workers/test_worker_rough_handlers.py": "worker-rough-handlers",
}

_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_shared = pytest.StashKey[SharedServers]()
_own_broker = pytest.StashKey[KafkaBroker]()


def pytest_configure(config: pytest.Config) -> None:
    """Scenarios are watched; the controller of a parallel run stands by to start the servers."""
    config.pluginmanager.register(scenario_marks, "scenario_marks")
    if not hasattr(config, "workerinput") and config.getoption("tx", None):
        config.stash[_folder] = folder = tempfile.TemporaryDirectory(
            prefix="jobledger-test-", ignore_cleanup_errors=True
        )
        Path(folder.name).chmod(0o755)  # Postgres does not run as root
        config.stash[_shared] = servers = SharedServers(Path(folder.name))
        servers.start()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Each worker learns where to ask."""
    node.workerinput[SERVERS_INPUT] = node.config.stash[_folder].name


def pytest_collection_finish() -> None:
    """What was imported stays: to go through it again and again costs a tenth of all the time of the processor."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The run is over, whatever became of it."""
    if (servers := config.stash.get(_shared, None)) is not None:
        servers.stop()
        config.stash[_folder].cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Every test by itself, but the groups (pytest-xdist's own `loadgroup` finds none with pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling  # only there in a parallel run

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return GROUPS.get(nodeid.partition("::")[0], nodeid)

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups first, then what takes long by itself."""
    order = list(GROUPS)

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return order.index(file) if file in GROUPS else len(order) + (item.get_closest_marker("slow") is None)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """In a parallel run, a worker's own broker runs beside the shared one only while tests want it.

    Through the group of those that have servers of their own it stays: a start costs four seconds of the processor.
    """
    yield
    broker = item.config.stash.get(_own_broker, None)
    wanted = nextitem is not None and (
        "session_broker" in getattr(nextitem, "fixturenames", ())
        or GROUPS.get(nextitem.nodeid.partition("::")[0]) == "own-servers"
    )
    if broker is not None and not wanted and hasattr(item.config, "workerinput"):
        broker.stop()


def _given(request: pytest.FixtureRequest, variable: str, name: str) -> str | None:
    """The address of a server that this process does not start: told by the user, or shared by a parallel run."""
    if address := os.environ.get(variable):
        return address
    folder = getattr(request.config, "workerinput", {}).get(SERVERS_INPUT)
    return shared_address(Path(folder), name) if folder else None


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A directory for servers' data; unlike pytest's own, other users may pass (Postgres does not run as root)."""
    with tempfile.TemporaryDirectory(prefix="jobledger-test-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def session_broker(request: pytest.FixtureRequest, server_dir: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(server_dir / "kafka", free_port(), free_port(), default_cache_dir())
    broker.start()
    request.config.stash[_own_broker] = broker
    yield broker
    broker.stop()


@pytest.fixture
def kafka_broker(session_broker: KafkaBroker) -> KafkaBroker:
    """The session's own broker, running; a test may kill, stop and start it."""
    session_broker.start()
    return session_broker


@pytest.fixture
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Where the tests' broker answers: the worker's own for a test that does things to it, else a shared one."""
    if "kafka_broker" not in request.fixturenames and (given := _given(request, BOOTSTRAP_VARIABLE, KAFKA)):
        return given
    broker: KafkaBroker = request.getfixturevalue("kafka_broker")
    return broker.bootstrap_servers


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of its own for each test; the topics that start with it are deleted afterwards."""
    name = f"t{uuid.uuid4().hex[:7]}"
    yield name
    if "bootstrap_servers" not in request.fixturenames and "kafka_broker" not in request.fixturenames:
        return
    servers = None if "kafka_broker" in request.fixturenames else _given(request, BOOTSTRAP_VARIABLE, KAFKA)
    if servers is None:
        broker: KafkaBroker = request.getfixturevalue("session_broker")
        if not broker.running:
            return
        servers = broker.bootstrap_servers
    _delete_topics(servers, name)


def _delete_topics(servers: str, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        topics = [topic for topic in admin.list_topics(timeout=5).topics if topic.startswith(prefix)]
        if topics:
            for deletion in admin.delete_topics(topics, operation_timeout=0).values():
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
    admin_dsn = None if "postgres" in request.fixturenames else _given(request, DSN_VARIABLE, POSTGRES)
    if admin_dsn is None:
        server = request.getfixturevalue("postgres")
        assert server is not None
        admin_dsn = server.dsn_of("postgres")
    with _database(admin_dsn) as dsn:
        yield dsn
        if server is not None:
            server.start()


@contextmanager
def _database(admin_dsn: str) -> Iterator[str]:
    """An empty database, dropped afterwards."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    create_database(admin_dsn, name)
    yield make_conninfo(admin_dsn, dbname=name)
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class KafkaGround(NamedTuple):
    """Where owners of several tests stand: the broker's address, a cell."""

    bootstrap_servers: str
    cell: str


class Ground(NamedTuple):
    """Where a system of several tests stands: the broker's address, a cell, a database."""

    bootstrap_servers: str
    cell: str
    postgres_dsn: str


@pytest.fixture(scope="module")
def module_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaGround]:
    """A cell for all tests of a file, on a broker that none of them does anything to."""
    servers = _given(request, BOOTSTRAP_VARIABLE, KAFKA)
    cell = f"t{uuid.uuid4().hex[:7]}"
    if servers is None:
        servers = request.getfixturevalue("session_broker").bootstrap_servers
    yield KafkaGround(servers, cell)
    _delete_topics(servers, cell)


@pytest.fixture(scope="module")
def module_ground(request: pytest.FixtureRequest, module_kafka: KafkaGround) -> Iterator[Ground]:
    """The same with a database, on a server that none of them does anything to."""
    admin_dsn = _given(request, DSN_VARIABLE, POSTGRES)
    if admin_dsn is None:
        admin_dsn = request.getfixturevalue("session_postgres").dsn_of("postgres")
    with _database(admin_dsn) as dsn:
        yield Ground(*module_kafka, dsn)
