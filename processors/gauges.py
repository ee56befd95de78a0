"""Gauges of a scheduler: what waits in its queues, and what is overdue, looked at every few seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from jobledger.domain.identity import split_stream
from jobledger.domain.queue.state import PRIORITIES
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
        ages: dict[str, float] = {}
        depths: dict[tuple[str, int, int], int] = {}
        for partition, machine in self._machines().items():
            overdue += machine.due_before(now - OVERDUE_MS)
            for stream, state in machine.streams["queue"].items():
                name = split_stream(stream)[2]  # which two tenants may have given to a queue each
                oldest = state.lanes.oldest_ready_ms()
                ages[name] = max(ages.get(name, 0.0), 0.0 if oldest is None else max(0, now - oldest) / 1000)
                for priority in PRIORITIES:
                    place = name, partition, priority
                    depths[place] = depths.get(place, 0) + state.lanes.depth(priority)
        self._show(ages, depths)
        self._metrics.set("scheduler_overdue_jobs_count", len(overdue))
        self._metrics.set("scheduler_scheduling_lag_seconds", (now - min(overdue)) / 1000 if overdue else 0)

    def _show(self, ages: dict[str, float], depths: dict[tuple[str, int, int], int]) -> None:
        by_partition: Counter[tuple[str, int]] = Counter()
        by_priority: Counter[tuple[str, int]] = Counter()
        for (name, partition, priority), depth in depths.items():
            by_partition[name, partition] += depth
            by_priority[name, priority] += depth
        for (name, partition), depth in by_partition.items():
            self._metrics.set("queue_depth", depth, queue_name=name, partition=partition)
        for (name, priority), depth in by_priority.items():
            self._metrics.set("queue_depth_by_priority", depth, queue_name=name, priority=str(priority))
        for name, age in ages.items():
            self._metrics.set("queue_message_age_seconds", age, queue_name=name)
        for name in self._queues - ages.keys():
            self._metrics.drop_matching(queue_name=name)
        self._queues = set(ages)
