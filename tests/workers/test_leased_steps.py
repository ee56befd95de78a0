"""A coroutine under a lease takes no step once it is over, whatever it was waiting for."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobledger.workers.attempt import Leased


async def test_a_handler_that_wakes_after_its_lease_does_nothing_more() -> None:
    """The whole process stood still meanwhile: its timer is due, and still it is cancelled, once, and may clean up."""
    steps: list[str] = []
    until = time.monotonic() + 0.2

    async def handler() -> None:
        try:
            while True:
                steps.append("step")
                await asyncio.sleep(0.05)
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    async def run() -> None:
        await Leased(handler(), lambda: time.monotonic() < until)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.06)
    before = len(steps)
    time.sleep(0.5)  # noqa: ASYNC251 - as a SIGSTOP would have it
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps[before:] == ["cleaned up"]


async def test_under_a_valid_lease_it_is_as_if_awaited() -> None:
    """Results, exceptions and cancellation pass through."""

    async def add(one: int) -> int:
        await asyncio.sleep(0)
        if one < 0:
            raise ValueError("negative")
        await asyncio.sleep(one)
        return one + 1

    async def run(one: int) -> object:
        return await Leased(add(one), lambda: True)

    assert await run(0) == 1
    with pytest.raises(ValueError, match="negative"):
        await run(-1)
    task = asyncio.create_task(run(30))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
