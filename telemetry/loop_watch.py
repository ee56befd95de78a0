"""Notices that the event loop of a process stood still: heartbeats, probes and requests wait meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 0.1
#: A loop that comes back later than this has stood still.
STALL_SECONDS = 0.25


class LoopWatch(TaskService):
    """Sleeps a little again and again, and counts how often it was woken too late; whoever held the loop."""

    name = "loop-watch"

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalls = metrics.bind("jobledger_loop_stalls_total")
        self._clock = clock

    async def start(self) -> None:
        """Begin to watch."""
        self._begin(self._run(), self.name)

    async def _run(self) -> None:
        while True:
            woken_at = self._clock() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            if self._clock() - woken_at > STALL_SECONDS:
                self._stalls.inc()
