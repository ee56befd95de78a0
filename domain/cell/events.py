"""Events of a cell."""

from __future__ import annotations

from jobledger.domain.values import EventBody


class CellEvent(EventBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the events of a cell."""


class LevelEnabled(CellEvent, frozen=True, kw_only=True, tag="cell.level_enabled.v1"):
    """A level was enabled on the partition, for the first time."""

    enabled_at_ms: int
    level: int


class LevelRaised(CellEvent, frozen=True, kw_only=True, tag="cell.level_raised.v1"):
    """A higher level was enabled on the partition."""

    raised_at_ms: int
    level: int


AnyCellEvent = LevelEnabled | LevelRaised
