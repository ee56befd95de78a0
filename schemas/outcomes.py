"""The record on `<cell>.outcomes`: what became of a command that asked for an answer."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from jobledger.domain.values import Opaque, Rejection, Value
from jobledger.schemas.decoding import decoder


class OutcomeStatus(StrEnum):
    """ACCEPTED also stands for a repeat of an accepted command: it gets the first outcome again."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


class Outcome(Value, frozen=True, kw_only=True):
    """What became of a command. (`partition`, `seq`) is the position from which a reader sees its effect.

    `stream` is the stream that the command took effect on: for a repeated idempotency key, the first job.
    `status_after` is the status of the job after the decision, for commands to a job. `offset` is where the command
    stands on `commands`: who has sent it later under the same id has got the answer to another sending.
    """

    command_id: str
    stream: str
    status: OutcomeStatus
    partition: int
    seq: int
    at_ms: int
    version: int = 0
    duplicate: bool = False
    status_after: str | None = None
    rejection: Rejection | None = None
    answer: Opaque | None = None
    offset: int | None = None


_encoder = msgspec.json.Encoder()
_decode = decoder(Outcome)


def encode_outcome(outcome: Outcome) -> bytes:
    """The JSON bytes of an outcome."""
    return _encoder.encode(outcome)


def decode_outcome(value: bytes) -> Outcome:
    """The outcome in a record; raises msgspec.ValidationError."""
    return _decode(value)
