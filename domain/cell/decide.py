"""What the commands of a cell mean."""

from __future__ import annotations

from jobledger.domain.cell.commands import CellCommand, EnableLevel
from jobledger.domain.cell.events import CellEvent, LevelEnabled, LevelRaised
from jobledger.domain.cell.state import Cell
from jobledger.domain.effects import Effect
from jobledger.domain.levels import LEVELS, OLDEST
from jobledger.domain.values import Answer, Code, Rejection


def decide(stream: str, cell: Cell | None, command: CellCommand, now: int) -> list[CellEvent] | Rejection | Answer:
    """What a command means for a cell at time `now` (ms)."""
    assert isinstance(command, EnableLevel)
    level = command.level
    if level not in LEVELS:
        message = f"Level {level} is not known to this release, which writes up to {max(LEVELS)}."
        return Rejection(code=Code.INVALID, message=message, field="level", value=str(level))
    if cell is None and level == OLDEST:
        return []  # every release reads it: an event that only later ones know must not tell of it
    if cell is None:
        return [LevelEnabled(enabled_at_ms=now, level=level)]
    if level < cell.level:
        message = f"Level {cell.level} is enabled, and what it wrote stays: there is no way back to {level}."
        return Rejection(code=Code.INVALID, message=message, field="level", value=str(level))
    return [LevelRaised(raised_at_ms=now, level=level)] if level > cell.level else []


def react(cell: Cell, event: CellEvent) -> list[Effect]:
    """Nothing follows from a cell's events."""
    return []
