"""No command is sent that owners of the release before, which may take over, would not know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobledger.domain.levels import OLDEST

#: How soon the level is asked for again when it was too low.
ASK_AGAIN_SECONDS = 2.0


class LevelGate:
    """Knows the lowest format level of the cell's partitions. A level never falls, so it is asked for when it is too
    low for something, and only then."""

    def __init__(self, read_lowest: Callable[[], int], monotonic: Callable[[], float]) -> None:
        """`read_lowest` blocks; what it raises is raised to whoever asks."""
        self._read_lowest = read_lowest
        self._monotonic = monotonic
        self._level = OLDEST
        self._asked_at = -ASK_AGAIN_SECONDS
        self._asking = asyncio.Lock()

    async def enabled(self, level: int) -> bool:
        """Whether all partitions are written in this level or a later one. Raises as its reader."""
        async with self._asking:
            if level > self._level and self._monotonic() - self._asked_at >= ASK_AGAIN_SECONDS:
                self._level = await asyncio.to_thread(self._read_lowest)
                self._asked_at = self._monotonic()
        return level <= self._level
