"""How rows of the read models become types of the schema: a field shows the column of its name."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from strawberry.types import get_object_definition

from jobledger.domain.values import Opaque
from jobledger.graphql.scalars import plain
from jobledger.projections.columns import RowStruct, columns

T = TypeVar("T")
R = TypeVar("R", bound=RowStruct)
Get = Callable[[Any], Any]


def shows(shown: type[T], row: type[R], **otherwise: str | Get) -> Callable[[R], T]:
    """Makes a type of the schema from a row: the field `due_at` shows the column `due_at` or `due_at_ms`.

    `otherwise` names for other fields the column, or how they are made from the row. Text of users is shown plainly.
    Raises TypeError for a field that nothing is shown by.
    """
    opaque = {column.name: column.python is Opaque for column in columns(row)}
    gets: list[tuple[str, Get]] = []
    for one in get_object_definition(shown, strict=True).fields:
        if one.base_resolver is None:
            name = one.python_name
            made = otherwise.get(name, name if name in opaque else f"{name}_ms")
            if isinstance(made, str) and made not in opaque:
                raise TypeError(f"{row.__name__} has no column for {shown.__name__}.{name}; say how it is made.")
            gets.append((name, _get(made, opaque)))

    def make(row: R) -> T:
        return shown(**{name: get(row) for name, get in gets})

    return make


def _get(made: str | Get, opaque: dict[str, bool]) -> Get:
    if not isinstance(made, str):
        return made
    value = attrgetter(made)
    return (lambda row: plain(value(row))) if opaque[made] else value
