"""How a row class tells its table: which columns there are, of which Postgres type, and what may change them.

The attributes of a row class in `rows` are the one list of a table's columns, in the order of COPY. Text of users
(`Opaque`) takes two columns: its data and, with `_encoding`, how to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, LiteralString, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from jobledger.domain.values import Opaque

Key = tuple[Any, ...]
#: A change of a row: column to value. Counted columns hold what is added, all others what is set; a column that is not
#: in it stays as it is.
Change = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R", bound="RowStruct")


class RowStruct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all rows. The default of an attribute is what a new row has when its change doesn't name the column."""


class Role(Enum):
    """What may change a column."""

    KEY = "key"
    #: Nothing: it is set when the row is made.
    FIXED = "fixed"
    CHANGING = "changing"
    #: Changes add to it.
    COUNTED = "counted"


class SqlType(NamedTuple):
    """The Postgres type of a column, where the Python type does not tell it."""

    name: str


InKey = Annotated[T, Role.KEY]
Fixed = Annotated[T, Role.FIXED]
Changing = Annotated[T, Role.CHANGING]
Counted = Annotated[T, Role.COUNTED]
Int32 = Annotated[int, SqlType("integer")]
Int16 = Annotated[int, SqlType("smallint")]

_SQL: dict[Any, str] = {str: "text", int: "bigint", float: "double precision", bool: "boolean", dict: "jsonb"}
_SQL |= {list: "jsonb", Opaque: "text"}


class Column(NamedTuple):
    """An attribute of a row: how it is stored, and read. `python` is its type without None."""

    name: str
    python: Any
    sql: str
    role: Role | None
    default: Any
    optional: bool

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the columns in Postgres."""
        return (self.name, f"{self.name}_encoding") if self.python is Opaque else (self.name,)


def columns(row: type[RowStruct]) -> tuple[Column, ...]:
    """The columns of a row class, in order."""
    hints = get_type_hints(row, include_extras=True)
    return tuple(_column(one, hints[one.name]) for one in msgspec.structs.fields(row))


def _column(attribute: msgspec.structs.FieldInfo, hint: Any) -> Column:
    role, sql, optional = None, None, False
    while get_origin(hint) in (Annotated, Union, UnionType):
        if get_origin(hint) is Annotated:
            role = next((one for one in hint.__metadata__ if isinstance(one, Role)), role)
            sql = next((one.name for one in hint.__metadata__ if isinstance(one, SqlType)), sql)
        optional = optional or NoneType in get_args(hint)
        hint = next(one for one in get_args(hint) if one is not NoneType)
    python = get_origin(hint) or hint
    default = None if attribute.default is msgspec.NODEFAULT else attribute.default
    return Column(attribute.name, python, sql or _SQL.get(python, "text"), role, default, optional)


@dataclass(frozen=True)
class Table:
    """One table, whose rows come of the streams of kind `of`; its key then begins with tenant and name of the stream.

    `final`: rows in one of these statuses are not changed any more.
    """

    name: str
    row: type[RowStruct]
    of: str = ""
    final: tuple[str, ...] = ()

    @cached_property
    def _stored(self) -> dict[str, Column]:
        return {name: column for column in columns(self.row) for name in column.stored}

    def _types(self, *roles: Role) -> dict[str, str]:
        return {name: one.sql for role in roles for name, one in self._stored.items() if one.role is role}

    @cached_property
    def key(self) -> dict[str, str]:
        """Key columns by name, with their types."""
        return self._types(Role.KEY)

    @cached_property
    def fixed(self) -> dict[str, str]:
        """Columns that never change."""
        return self._types(Role.FIXED)

    @cached_property
    def changing(self) -> dict[str, str]:
        """Columns that changes set."""
        return self._types(Role.CHANGING)

    @cached_property
    def counters(self) -> dict[str, str]:
        """Columns that changes add to."""
        return self._types(Role.COUNTED)

    @cached_property
    def types(self) -> dict[str, str]:
        """All columns with their types, in the order of COPY."""
        return {**self.key, **self.fixed, **self.changing, **self.counters}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order of COPY."""
        return tuple(self.types)

    @cached_property
    def _rest(self) -> tuple[tuple[str, Any], ...]:
        """Columns behind the key, with what they are in a new row whose change does not name them."""
        return tuple((name, self._stored[name].default) for name in self.columns[len(self.key) :])

    def new_row(self, key: Key, change: Change) -> list[Any]:
        """Values of a new row in the order of `columns`."""
        get = change.get
        return [*key, *[get(name, default) for name, default in self._rest]]


# -- reading ----------------------------------------------------------------------------------------------------------


def selected(row: type[RowStruct], *, without: tuple[str, ...] = ()) -> LiteralString:
    """The columns of a row class as SELECT lists them; those of `without` are NULL."""
    names = []
    for column in columns(row):
        names += [f"NULL AS {name}" if column.name in without else name for name in column.stored]
    return ", ".join(names)


def reader(row: type[R]) -> Callable[[dict[str, Any]], R]:
    """Makes rows of a class from dicts of columns as SELECT gives them."""
    opaque = [column.stored for column in columns(row) if column.python is Opaque]
    packed = list(_packed(row))

    def read(values: dict[str, Any]) -> R:
        for name, encoding in opaque:
            named = values.pop(encoding)
            if named is not None:
                values[name] = Opaque(values[name], named)
        for name, decode in packed:
            values[name] = decode(values[name])
        return row(**values)

    return read


def _packed(row: type[RowStruct]) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Values that stand in one column as JSON text."""
    for column in columns(row):
        if column.python is not Opaque and issubclass(column.python, msgspec.Struct):
            yield column.name, msgspec.json.Decoder(column.python).decode
