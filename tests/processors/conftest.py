from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from jobledger.processors.clock import SystemClock
from jobledger.processors.scheduler import Scheduler
from jobledger.settings import Settings
from jobledger.telemetry.log_line import SINK
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)

from log_cell import LogCell, OwnerAlone  # noqa: E402

StartOwner = Callable[..., Awaitable[OwnerAlone]]


@pytest.fixture
async def log_cell(bootstrap_servers: str, cell: str) -> AsyncIterator[LogCell]:
    """A cell of four partitions with its topics."""
    one = LogCell(bootstrap_servers, cell)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def start_owner(log_cell: LogCell) -> AsyncIterator[StartOwner]:
    """Starts owners of partitions, without a group; they are stopped at the end."""
    started: list[OwnerAlone] = []

    async def start(partition: int, **given: Any) -> OwnerAlone:
        one = OwnerAlone(log_cell, partition, **given)
        started.append(one)
        await one.start()
        return one

    yield start
    await asyncio.gather(*(one.stop() for one in started))


@pytest.fixture
def log_events() -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """What a scheduler logs in this process, line by line; gives the lines of one event."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("scheduler", "s", to_stream=stream, check_events=True)

    def find(event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == event]

    yield find
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    SINK.configured = False


StartScheduler = Callable[..., Awaitable[Scheduler]]


@pytest.fixture
async def start_scheduler(log_cell: LogCell) -> AsyncIterator[StartScheduler]:
    """Starts whole schedulers in this process, group and all; they are stopped at the end."""
    configure_logging("scheduler", "s", to_stream=io.BytesIO(), check_events=True)
    started: list[Scheduler] = []

    async def start(name: str, **given: Any) -> Scheduler:
        settings = Settings(
            cell=log_cell.cell,
            partitions=log_cell.partitions,
            dev=True,
            instance_id=name,
            **{"kafka": log_cell.kafka, "session_timeout_seconds": 6.0, **given},
        )
        clock = SystemClock(settings.clock_offset_ms)
        scheduler = Scheduler(settings, Metrics("scheduler", instance_id=name), clock)
        started.append(scheduler)
        await scheduler.start()
        return scheduler

    yield start
    for scheduler in started:
        await stop_scheduler(scheduler)


async def stop_scheduler(scheduler: Scheduler) -> None:
    await scheduler.stop()


@pytest.fixture
def stop() -> Callable[[Scheduler], Awaitable[None]]:
    """Stops a scheduler in good order."""
    return stop_scheduler
