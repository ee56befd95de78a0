"""The clocks of a process."""

from __future__ import annotations

import time

from jobledger.eventlog.boot_clock import boot_seconds


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
