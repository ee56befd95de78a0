"""An operation that is ready to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Answer_co]):
    """A GraphQL document with its variables. `Answer_co`: what the one field that it asks, `field`, answers as JSON."""

    document: str
    variables: Mapping[str, object]
    field: str
