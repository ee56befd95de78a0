"""Lets a scheduler own partitions only while its clock agrees with the broker's, and says so when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from jobledger.processors.core.machine import Machine
from jobledger.processors.core.watched_clock import ClockWrongError, WatchedClock
from jobledger.telemetry.health import Checked, HealthStatus
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 0.1
#: How long a start waits for the clock to be set right. It joins no group before: nobody loses a partition to it.
START_SECONDS = 5.0
#: A clock that is wrong for longer costs the process its partitions; a step that is corrected at once does not.
HAND_OVER_SECONDS = 2.0

log = get_logger()


class ClockGate(TaskService):
    """Start it before anything that joins the group; `wait()` raises when the partitions are for others to serve.

    Owners stop by themselves, at the next look at their clock. When the clock is still wrong after
    `HAND_OVER_SECONDS` the process ends: it leaves the group, others take its partitions, and whoever started it
    starts it again, where it waits for its clock outside the group.
    """

    name = "clock"

    def __init__(self, clock: WatchedClock, machines: Callable[[], Mapping[int, Machine]], metrics: Metrics) -> None:
        self._clock = clock
        self._machines = machines
        self._metrics = metrics
        self._wrong_since: float | None = None
        self._ahead: dict[int, int] = {}

    async def start(self) -> None:
        """Wait until the clock is right; raises ClockWrongError when it is not in `START_SECONDS`."""
        deadline = self._clock.monotonic() + START_SECONDS
        while (error := self._look()) is not None:
            if self._clock.monotonic() > deadline:
                raise error
            await asyncio.sleep(LOOK_SECONDS)
        self._begin(self._run(), "clock-gate")

    async def check(self) -> Checked:
        """For the health page. A partition whose time is ahead of the clock was written by one that was wrong."""
        skew = self._clock.skew_ms()
        details: dict[str, object] = {"skew_ms": skew}
        if self._wrong_since is not None:
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": f"the clock is {skew} ms from the broker's"})
        if self._ahead:
            ahead = {str(partition): ms for partition, ms in self._ahead.items()}
            return Checked(HealthStatus.DEGRADED, {**details, "partition_time_ahead_ms": ahead})
        return Checked(details=details)

    async def _run(self) -> None:
        while True:
            error = self._look()
            since = self._wrong_since
            if error is not None and since is not None and self._clock.monotonic() - since > HAND_OVER_SECONDS:
                raise error
            self._look_at_partitions()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> ClockWrongError | None:
        skew = self._clock.skew_ms()
        self._metrics.set("jobledger_clock_skew_seconds", skew / 1000)
        try:
            self._clock.now_ms()
        except ClockWrongError as error:
            if self._wrong_since is None:
                self._wrong_since = self._clock.monotonic()
                log.error("clock_skewed", skew_ms=error.skew_ms, error=str(error))
            return error
        if self._wrong_since is not None:
            seconds = self._clock.monotonic() - self._wrong_since
            log.info("clock_right", skew_ms=skew, duration_ms=round(seconds * 1000))
            self._wrong_since = None
        return None

    def _look_at_partitions(self) -> None:
        """Which partitions have a time that the clock has not come to by far; see Machine.time_ms."""
        try:
            now_ms = self._clock.now_ms()
        except ClockWrongError:
            return
        ahead = {
            partition: ms
            for partition, machine in self._machines().items()
            if (ms := machine.checkpoint.now_ms - now_ms) > machine.limits.ahead_ms
        }
        for partition, ms in ahead.items():
            self._metrics.set("jobledger_partition_time_ahead_seconds", ms / 1000, partition=partition)
            if partition not in self._ahead:
                log.error("partition_time_ahead", partition=partition, ahead_ms=ms)
        for partition in self._ahead.keys() - ahead.keys():
            self._metrics.set("jobledger_partition_time_ahead_seconds", 0, partition=partition)
        self._ahead = ahead
