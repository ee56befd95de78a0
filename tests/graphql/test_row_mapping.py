"""Types of the schema show the columns of their names."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry

from jobledger.domain.values import Opaque
from jobledger.graphql.row_mapping import shows
from jobledger.graphql.scalars import Json
from jobledger.projections.columns import Changing, Fixed, InKey, RowStruct


class _Row(RowStruct, frozen=True, kw_only=True):
    id: InKey[str]
    note: Fixed[Opaque | None]
    begun_at_ms: Changing[int | None]
    hidden: Changing[int] = 7


@strawberry.type
class _Shown:
    id: str
    name: str
    note: Json | None
    begun_at: int | None
    length: int

    @strawberry.field
    def resolved(self) -> str:
        """Not of the row."""
        return ""


def test_a_field_shows_the_column_of_its_name_unless_something_else_is_said() -> None:
    make = shows(_Shown, _Row, name="id", length=lambda row: len(row.id))
    made: Any = make(_Row(id="one", note=Opaque('{"a": 1}'), begun_at_ms=5))
    assert (made.id, made.name, made.note, made.begun_at, made.length) == ("one", "one", {"a": 1}, 5, 3)
    assert make(_Row(id="one", note=None, begun_at_ms=None)).note is None


def test_a_field_without_a_column_is_refused_at_once() -> None:
    """Not when somebody asks for it."""
    with pytest.raises(TypeError, match=r"_Row has no column for _Shown\.name"):
        shows(_Shown, _Row, length=lambda row: 0)
