from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing
from jobledger.workers.registry import load_handlers
from jobledger.workers.runtime import Worker, WorkerConfig

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)  # the pool's processes find sample_handlers through it, as a user's modules

from client_stack import client, stack  # noqa: E402, F401 - fixtures
from owner_standin import PARTITIONS, Owners  # noqa: E402

StartWorker = Callable[..., Awaitable[tuple[Worker, str]]]


@pytest.fixture
def log_lines() -> io.BytesIO:
    """All log lines of the test, each checked against the table."""
    stream = io.BytesIO()
    configure_logging("worker", "w", to_stream=stream, check_events=True, level="DEBUG")
    return stream


@pytest.fixture
async def owners(bootstrap_servers: str, cell: str) -> AsyncIterator[Owners]:
    one = Owners(bootstrap_servers, cell)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def start_worker(owners: Owners, log_lines: io.BytesIO) -> AsyncIterator[StartWorker]:
    """Starts a worker with the sample handlers; gives it and its first incarnation."""
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
