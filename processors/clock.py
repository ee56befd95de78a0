"""The clocks of a process."""

from __future__ import annotations

import time
from pathlib import Path

from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.settings import Settings


class SystemClock:
    """Wall time, and time since the machine was started. `offset_ms` moves the wall time; dev and tests use it."""

    def __init__(self, offset_ms: int = 0) -> None:
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self._offset_ms

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward, also while the machine is suspended."""
        return boot_seconds()

    def move(self, ms: int) -> None:
        """Let the wall time jump."""
        self._offset_ms += ms


class FollowingClock(SystemClock):
    """A clock for dev and tests that another process moves: a file holds by how many ms it is wrong at the moment."""

    def __init__(self, offset_ms: int, path: Path) -> None:
        super().__init__(offset_ms)
        self._path = path

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return super().now_ms() + int(self._path.read_text() or 0)


def make_clock(settings: Settings) -> SystemClock:
    """The clock of a process; only in dev it can be moved."""
    if not settings.dev:
        return SystemClock()
    if settings.clock_offset_file:
        return FollowingClock(settings.clock_offset_ms, Path(settings.clock_offset_file))
    return SystemClock(settings.clock_offset_ms)
