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
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing
from jobledger.workers.registry import load_handlers
from jobledger.workers.runtime import Worker, WorkerConfig

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)  # the pool's processes find sample_handlers through it, as a user's modules

from client_stack import client, stack  # noqa: E402, F401 - fixtures
from worker_cell import PARTITIONS, WorkerCell  # noqa: E402

StartWorker = Callable[..., Awaitable[tuple[Worker, str]]]
StartRole = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def log_lines() -> io.BytesIO:
    """All log lines of the test, each checked against the table."""
    stream = io.BytesIO()
    configure_logging("worker", "w", to_stream=stream, check_events=True, level="DEBUG")
    return stream


@pytest.fixture
def lease_seconds() -> float:
    """After how long a silence the owners take a worker for lost; most tests have no use for that."""
    return 60.0


@pytest.fixture
def leave_pauses() -> tuple[float, ...]:
    """How long a worker that stops reads its inbox still; most tests have nothing on its way to it."""
    return (0.0, 0.05)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a worker's cell run in one loop for each file, so that they can share it."""
    for item in items:
        mine = isinstance(item, pytest.Function) and "owners" in item.fixturenames
        if mine and item.path.parent == Path(__file__).parent and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_owners(module_cell: tuple[str, str]) -> AsyncIterator[WorkerCell]:
    """A cell whose partitions are owned, for all tests of a file."""
    one = WorkerCell(*module_cell, lease_seconds=60.0)
    await one.start()
    yield one
    await one.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def shared(shared_owners: WorkerCell) -> AsyncIterator[WorkerCell]:
    """That cell as a test finds it: nothing is left of the test before. A file takes it for its `owners`."""
    shared_owners.begin()
    yield shared_owners
    await shared_owners.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def owners(bootstrap_servers: str, cell: str, lease_seconds: float) -> AsyncIterator[WorkerCell]:
    """A cell of the test's own, whose partitions are owned."""
    one = WorkerCell(bootstrap_servers, cell, lease_seconds)
    await one.start()
    yield one
    await one.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def start_worker(
    owners: WorkerCell, log_lines: io.BytesIO, leave_pauses: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartWorker]:
    """Starts a worker with the sample handlers; gives it and its first incarnation."""
    monkeypatch.setattr("jobledger.workers.pool.WARM_PROCESSES", 1)  # more start when a test has use for them
    monkeypatch.setattr("jobledger.workers.runtime.LEAVE_PAUSES", leave_pauses)
    started: list[Worker] = []

    async def start(name: str = "w-1", modules: tuple[str, ...] = ("sample_handlers",), **options: Any) -> Any:
        config = WorkerConfig(
            worker=name,
            cell=owners.cell,
            tenant="default",
            partitions=PARTITIONS,
            **{"slots": 4, "heartbeat_interval_seconds": 0.5, "lease_seconds": 5.0, **options},
        )
        registry = load_handlers(modules)
        metrics = Metrics("worker", instance_id=name, strict=True)
        worker = Worker(config, owners.kafka, registry, metrics, Tracing(), lambda: str(uuid_utils.uuid7()))
        started.append(worker)
        await worker.start()
        return worker, await owners.registered(name)

    yield start
    for worker in started:
        with contextlib.suppress(Exception):
            await worker.stop()


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
            "PYTHONPATH": HERE,
            "JOBLEDGER_INSTANCE_ID": name,
            "JOBLEDGER_CELL": owners.cell,
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
