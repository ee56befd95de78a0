"""How much a batch has come to, and the bound of a record."""

from __future__ import annotations

from jobledger.schemas.limits import MAX_MESSAGE_BYTES

MAX_STATE_BYTES = MAX_MESSAGE_BYTES - 4096


class OversizeError(ValueError):
    """A record of a decision is larger than Kafka takes; nothing of the batch has been produced."""


def bounded(what: str, value: bytes) -> bytes:
    """The value; raises OversizeError when it is over the bound of a record."""
    if len(value) > MAX_STATE_BYTES:
        raise OversizeError(f"A {what} of {len(value)} bytes is over the bound of {MAX_STATE_BYTES}.")
    return value


class Sizes:
    """Counts the bytes that one transaction will write."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def record(self, value: bytes) -> bytes:
        """The value of a state record, counted; raises OversizeError."""
        self.bytes += len(bounded("record", value))
        return value
