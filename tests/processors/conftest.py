from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobledger.processors.clock import SystemClock
from jobledger.processors.role import Scheduler
from jobledger.settings import Settings
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
    for one in started:
        await one.stop()


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
            kafka=log_cell.kafka,
            **{"session_timeout_seconds": 6.0, **given},
        )
        clock = SystemClock(settings.clock_offset_ms)
        scheduler = Scheduler(settings, Metrics("scheduler", instance_id=name), clock)
        started.append(scheduler)
        for part in scheduler.parts:
            await part.start()
        return scheduler

    yield start
    for scheduler in started:
        await stop_scheduler(scheduler)


async def stop_scheduler(scheduler: Scheduler) -> None:
    for part in reversed(scheduler.parts):
        await part.stop()


@pytest.fixture
def stop() -> Callable[[Scheduler], Awaitable[None]]:
    """Stops a scheduler in good order."""
    return stop_scheduler
