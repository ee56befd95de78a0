"""The clock that leases are counted by: it only runs forward, and goes on while the machine is suspended."""

from __future__ import annotations

import sys
import time


def _find_clock() -> int:
    if sys.platform == "linux":
        return time.CLOCK_BOOTTIME
    return time.CLOCK_MONOTONIC  # on macOS this one counts the time asleep, unlike the clock of time.monotonic()


_CLOCK = _find_clock()


def boot_seconds() -> float:
    """Seconds since the machine was started, those in which it was suspended among them.

    `time.monotonic()` stands still in a suspend: a worker that wakes would take its lease for valid although its
    tasks run elsewhere by now.
    """
    return time.clock_gettime(_CLOCK)
