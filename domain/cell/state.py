"""State of a cell on one partition."""

from __future__ import annotations

import msgspec


class Cell(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was enabled on a partition by an operator."""

    id: str
    version: int
    level: int
    created_seq: int = 0
    recent: list[str] = []

    class_version = 1

    @property
    def head(self) -> Cell:
        """The cell itself: nothing is stored beside it."""
        return self
