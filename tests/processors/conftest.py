from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

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
