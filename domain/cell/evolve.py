"""How the events of a cell change its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.cell.events import CellEvent, LevelEnabled, LevelRaised
from jobledger.domain.cell.state import Cell


def create(stream: str, event: LevelEnabled) -> Cell:
    """The cell after its first event."""
    return Cell(id=stream, version=1, level=event.level)


def _on_raised(cell: Cell, event: LevelRaised) -> None:
    cell.level = event.level


EVOLVE: dict[type[CellEvent], Callable[[Cell, Any], None]] = {LevelRaised: _on_raised}
