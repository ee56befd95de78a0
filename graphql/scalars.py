"""Scalars of the schema, and how their values are written."""

from __future__ import annotations

from typing import Any, NewType

import msgspec
import strawberry
from graphql import GraphQLError, ValueNode
from graphql.utilities import value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

from jobledger.domain.values import Opaque
from jobledger.schemas.events import rfc3339

DateTime = NewType("DateTime", object)
"""An instant: text as it came in, ms since the epoch on the way out."""
Json = NewType("Json", object)
"""Any JSON value."""
BigInt = NewType("BigInt", int)
"""An integer beyond 32 bits."""
Position = NewType("Position", str)
"""A position token; see `jobledger.eventlog.positions`."""
Cursor = NewType("Cursor", str)
"""A place in one ordering of a connection."""


def _write_time(value: Any) -> str:
    return value if isinstance(value, str) else rfc3339(value)


def _read_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
    return value_from_ast_untyped(node, variables)


def _token(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphQLError("Expected the text of a token that an answer gave.")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    DateTime: strawberry.scalar(
        name="DateTime",
        description="An instant in RFC 3339 form with a zone, such as 2026-01-31T09:30:00Z.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=_write_time,
        parse_value=lambda value: value,
        parse_literal=_read_literal,
    ),
    Json: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, array, string, number, true, false or null.",
        serialize=lambda value: value,
        parse_value=lambda value: value,
        parse_literal=_read_literal,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="An integer of up to 53 bits: counters, bytes, sequence numbers.",
        serialize=lambda value: value,
        parse_value=lambda value: value,
        parse_literal=_read_literal,
    ),
    Position: strawberry.scalar(
        name="Position",
        description="Opaque: how far somebody has read the log. Give one back as `after`.",
        serialize=lambda value: value,
        parse_value=_token,
    ),
    Cursor: strawberry.scalar(
        name="Cursor",
        description="Opaque: a place in the ordering of one connection.",
        serialize=lambda value: value,
        parse_value=_token,
    ),
}

UNREADABLE = {"encoding": "unreadable"}


def plain(opaque: Opaque | None) -> Json | None:
    """The JSON value in a user's opaque text; for another encoding its name and the text as stored."""
    if opaque is None:
        return None
    if opaque.encoding == "json":
        try:
            return Json(msgspec.json.decode(opaque.data))
        except (msgspec.DecodeError, UnicodeError):
            return Json({**UNREADABLE, "data": opaque.data})
    return Json({"encoding": opaque.encoding, "data": opaque.data})
