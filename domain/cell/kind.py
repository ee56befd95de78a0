"""The cell, as the register of aggregates has it."""

from __future__ import annotations

from jobledger.domain.cell import decide, evolve
from jobledger.domain.cell.events import LevelEnabled
from jobledger.domain.cell.state import Cell
from jobledger.domain.kind import Kind, Recorded


def _create(record: Recorded) -> Cell:
    return evolve.create(record.originator_id, record.data)


CELL = Kind(
    name="cell",
    snapshot=Cell,
    created_by=LevelEnabled,
    create=_create,
    decide=decide.decide,
    evolve=evolve.EVOLVE,
    react=decide.react,
    level=lambda cell: cell.level,
)
