"""What a worker takes of its machine: processor time and memory, its own and its pool's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable

import psutil

from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 5.0


class ResourceUsage(TaskService):
    """Looks at the worker and the processes of its pool every few seconds.

    `pool`: the ids of the pool's processes that live now. What handlers have started beside them is theirs.
    """

    name = "resource-usage"

    def __init__(self, metrics: Metrics, pool: Callable[[], Iterable[int]]) -> None:
        self._metrics = metrics
        self._pool = pool
        #: Processor seconds used until the last look. A process is told from a later one of its number.
        self._used: dict[psutil.Process, float] = {}
        self._looked_at = 0.0

    async def start(self) -> None:
        """Begin to look."""
        self._begin(self._run(), self.name)

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Set the gauges; that of processor time from the second look on."""
        now, resident = time.monotonic(), 0
        used: dict[psutil.Process, float] = {}
        for pid in (os.getpid(), *self._pool()):
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
            except psutil.Error:  # it has ended; what it used since the last look nobody can say
                continue
            used[process] = times.user + times.system
        if self._looked_at:
            spent = sum(seconds - self._used.get(process, 0.0) for process, seconds in used.items())
            self._metrics.set("worker_cpu_usage_percent", 100 * spent / (now - self._looked_at))
        self._metrics.set("worker_memory_usage_bytes", resident)
        self._used, self._looked_at = used, now
