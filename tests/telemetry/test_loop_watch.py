"""A loop that somebody holds is counted once, however long; one that only waits is not."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobledger.telemetry import loop_watch
from jobledger.telemetry.loop_watch import LoopWatch
from jobledger.telemetry.metrics import Metrics


class _Clock:
    """Stands still but for what the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.scenario("a loop stalls", emits=("jobledger_loop_stalls_total",))
async def test_a_stall_is_counted_once(monkeypatch) -> None:
    monkeypatch.setattr(loop_watch, "LOOK_SECONDS", 0.01)
    metrics, clock = Metrics("worker", instance_id="w", strict=True), _Clock()
    watch = LoopWatch(metrics, clock)
    await watch.start()

    def stalls() -> float | None:
        return metrics.registry.get_sample_value("jobledger_loop_stalls_total")

    await asyncio.sleep(0.05)
    assert stalls() == 0
    clock.now += 3.0
    await asyncio.sleep(0.05)
    assert stalls() == 1
    await watch.stop()


async def test_whoever_holds_the_loop_is_noticed_by_the_clock_on_the_wall() -> None:
    metrics = Metrics("worker", instance_id="w", strict=True)
    watch = LoopWatch(metrics)
    await watch.start()
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - what is not to be done
    await asyncio.sleep(0.05)
    assert (metrics.registry.get_sample_value("jobledger_loop_stalls_total") or 0) >= 1
    await watch.stop()
