"""The clocks of a process."""

from __future__ import annotations

import time


class SystemClock:
    """Wall and monotonic time. `offset_ms` moves the wall time; dev and tests use it."""

    def __init__(self, offset_ms: int = 0) -> None:
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self._offset_ms

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward."""
        return time.monotonic()
