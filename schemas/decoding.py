"""Decoders of records: whatever the bytes are, they are read or raise msgspec.DecodeError or UnicodeDecodeError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A decoder of JSON into `kind`.

    msgspec meets its bound on nesting with a RecursionError, which no reader of a log expects: one such record
    would stop a partition for ever. Here it is a DecodeError like any other.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> T:
        try:
            return decode(data)
        except RecursionError as error:
            raise msgspec.DecodeError("JSON is nested too deeply") from error

    return read


def decode_any(data: bytes) -> Any:
    """JSON of any shape."""
    return _any(data)


_any = decoder(object)
