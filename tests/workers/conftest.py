from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uuid_utils

from jobledger.dev.descendants import Descendants
from jobledger.dev.ports import free_port
from jobledger.settings import Settings
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing
from jobledger.workers.registry import load_handlers
from jobledger.workers.runtime import BLOCKED_LIMIT_SECONDS, DRAIN_SECONDS, Worker

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))

from worker_cell import LEASE_SECONDS, PARTITIONS, WorkerCell  # noqa: E402

StartWorker = Callable[..., Awaitable[tuple[Worker, str]]]
StartRole = Callable[..., subprocess.Popen[bytes]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a file run in one loop, so that they can share a cell."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture
def log_lines() -> io.BytesIO:
    """All log lines of the test, each checked against the table."""
    stream = io.BytesIO()
    configure_logging("worker", "w", to_stream=stream, check_events=True, level="DEBUG")
    return stream


@pytest.fixture
def lease_seconds() -> float:
    """After how long a silence the owners take a worker for lost; most tests have no use for that."""
    return LEASE_SECONDS


@pytest.fixture
def leave_pauses() -> tuple[float, ...]:
    """Before each of the times that a worker tells its queues that it leaves; once is enough for most tests."""
    return (0.0,)


@pytest_asyncio.fixture(loop_scope="module")
async def own_cell(bootstrap_servers: str, cell: str, lease_seconds: float) -> AsyncIterator[WorkerCell]:
    """A cell of the test's own, whose partitions are owned."""
    one = WorkerCell(bootstrap_servers, cell, lease_seconds)
    await one.start()
    yield one
    await one.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_cell(module_kafka: Any) -> AsyncIterator[WorkerCell]:
    """A cell whose partitions are owned while the tests of a file run."""
    one = WorkerCell(*module_kafka, LEASE_SECONDS)
    await one.start()
    yield one
    await one.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def shared_cell(module_cell: WorkerCell) -> AsyncIterator[WorkerCell]:
    """The cell of the file as one test sees it."""
    module_cell.begin()
    yield module_cell
    try:
        await module_cell.left()
    finally:
        module_cell.end()


@pytest.fixture
def owners(own_cell: WorkerCell) -> WorkerCell:
    """The cell that workers are started in. Files whose tests share one have this fixture anew."""
    return own_cell


@pytest_asyncio.fixture(loop_scope="module")
async def start_worker(
    owners: WorkerCell, log_lines: io.BytesIO, leave_pauses: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartWorker]:
    """Starts a worker with the sample handlers; gives it and its first incarnation."""
    monkeypatch.setattr("jobledger.workers.pool.WARM_PROCESSES", 1)  # more start when a test has use for them
    monkeypatch.setattr("jobledger.workers.runtime.LEAVE_PAUSES", leave_pauses)
    started: list[Worker] = []

    async def start(
        name: str = "w-1",
        modules: tuple[str, ...] = ("sample_handlers",),
        drain_seconds: float = DRAIN_SECONDS,
        blocked_limit_seconds: float = BLOCKED_LIMIT_SECONDS,
        **options: Any,
    ) -> Any:
        given = {
            "kafka": owners.kafka,
            "worker_slots": 4,
            "heartbeat_interval_seconds": 0.5,
            "lease_seconds": 5.0,
            **options,
        }
        settings = Settings(
            cell=owners.cell,
            tenant=owners.tenant,
            partitions=PARTITIONS,
            instance_id=name,
            **given,
        )
        worker = Worker(
            settings,
            load_handlers(modules),
            Metrics("worker", instance_id=name, strict=True),
            Tracing(),
            new_id=lambda: str(uuid_utils.uuid7()),
            drain_seconds=drain_seconds,
            blocked_limit_seconds=blocked_limit_seconds,
        )
        started.append(worker)
        await worker.start()
        return worker, await owners.registered(name)

    yield start
    for worker in started:
        with contextlib.suppress(Exception):
            await worker.stop()
            if worker.incarnation:
                owners.stopped.append(worker.incarnation)


@pytest.fixture
def started() -> Iterator[Descendants]:
    """Everything that the test starts as processes; what lives at the end is killed: a failure leaves nothing."""
    one = Descendants()
    yield one
    one.kill()


@pytest.fixture
def start_role(owners: WorkerCell, started: Descendants, tmp_path: Path) -> Iterator[StartRole]:
    """Starts `jobledger worker` as a process of its own, with the sample handlers; `NAME.log` is what it prints."""

    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, **environment: str) -> subprocess.Popen[bytes]:
        given = {
            **os.environ,
            **started.environment,
            "PYTHONPATH": str(HERE.parent),
            "JOBLEDGER_INSTANCE_ID": name,
            "JOBLEDGER_CELL": owners.cell,
            "JOBLEDGER_TENANT": owners.tenant,
            "JOBLEDGER_PARTITIONS": str(PARTITIONS),
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_HANDLERS": "sample_handlers",
            "JOBLEDGER_WORKER_SLOTS": "4",
            "JOBLEDGER_HEALTH_PORT": str(free_port()),
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": owners.kafka.bootstrap_servers,
            **environment,
        }
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobledger.cli", "worker"],
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
