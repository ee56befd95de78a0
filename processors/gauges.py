"""Gauges of a scheduler: what waits in its queues, and what is overdue, looked at every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from jobledger.domain.identity import split_stream
from jobledger.domain.queue.state import PRIORITIES, Lanes
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.ports import Clock
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 2.0
OVERDUE_MS = 5_000


class Gauges(TaskService):
    """Sets the gauges of the machines that this process serves; a queue that has gone takes its series along."""

    def __init__(self, machines: Callable[[], Mapping[int, Machine]], metrics: Metrics, clock: Clock) -> None:
        self._machines = machines
        self._metrics = metrics
        self._clock = clock
        self._queues: set[str] = set()

    async def start(self) -> None:
        """Begin to look."""
        self._begin(self._run(), "gauges")

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Set every gauge once."""
        now = self._clock.now_ms()
        overdue: list[int] = []
        seen: set[str] = set()
        for partition, machine in self._machines().items():
            overdue += machine.due_before(now - OVERDUE_MS)
            for stream, state in machine.streams["queue"].items():
                name = split_stream(stream)[2]
                seen.add(name)
                self._queue(name, partition, state.lanes, now)
        for name in self._queues - seen:
            self._metrics.drop_matching(queue_name=name)
        self._queues = seen
        self._metrics.set("scheduler_overdue_jobs_count", len(overdue))
        self._metrics.set("scheduler_scheduling_lag_seconds", (now - min(overdue)) / 1000 if overdue else 0)

    def _queue(self, name: str, partition: int, lanes: Lanes, now: int) -> None:
        depths = {priority: lanes.depth(priority) for priority in PRIORITIES}
        self._metrics.set("queue_depth", sum(depths.values()), queue_name=name, partition=partition)
        for priority, depth in depths.items():
            self._metrics.set("queue_depth_by_priority", depth, queue_name=name, priority=str(priority))
        oldest = lanes.oldest_ready_ms()
        age = 0.0 if oldest is None else max(0, now - oldest) / 1000
        self._metrics.set("queue_message_age_seconds", age, queue_name=name)
