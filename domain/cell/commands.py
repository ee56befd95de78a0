"""Commands that a cell decides, on each of its partitions by itself."""

from __future__ import annotations

from jobledger.domain.values import CommandBody


class CellCommand(CommandBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the commands that a cell decides."""


class EnableLevel(CellCommand, frozen=True, kw_only=True, tag="cell.enable_level.v1"):
    """Write the formats of a level from now on; it is never taken back."""

    level: int


AnyCellCommand = EnableLevel
