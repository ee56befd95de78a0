"""The virtual clock of an inline client, and how many events it has seen."""

from __future__ import annotations

from datetime import UTC, datetime

from jobledger.eventlog.positions import encode_position

CELL = "inline"


class InlineLog:
    """Time stands still at `now_ms` until somebody moves it; positions are those of one partition."""

    def __init__(self, start: datetime | None) -> None:
        self.now_ms = int((start or datetime.now(UTC)).timestamp() * 1000)
        self._seq = 0

    def append(self) -> str:
        """Count one more event; its position."""
        self._seq += 1
        return self.position()

    def position(self) -> str:
        """The position of the last event."""
        return encode_position(CELL, {0: self._seq})

    def move_to(self, at_ms: int) -> None:
        """Move the clock, which never runs backwards."""
        self.now_ms = max(self.now_ms, at_ms)
