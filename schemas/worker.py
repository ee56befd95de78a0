"""Records of the worker protocol: inboxes on `<cell>.tasks`, liveness on `<cell>.heartbeats`."""

from __future__ import annotations

import msgspec

from jobledger.domain.values import Value
from jobledger.domain.worker_messages import AnyWorkerMessage, Heartbeat
from jobledger.schemas.decoding import decoder


class TaskRecord(Value, frozen=True, kw_only=True):
    """Value of a record on `tasks`: messages for the workers whose inbox is that partition.

    From an outbox it names its source partition and its number there. A repeat is possible; workers drop
    what they have had by (job, task, assignment).
    """

    messages: list[AnyWorkerMessage]
    source: int | None = None
    number: int | None = None


_encoder = msgspec.json.Encoder()
_decode_tasks = decoder(TaskRecord)
_decode_heartbeat = decoder(Heartbeat)


def encode_message(message: AnyWorkerMessage) -> bytes:
    """The JSON bytes of one worker message."""
    return _encoder.encode(message)


def join_tasks(messages: list[bytes], source: int, number: int) -> bytes:
    """A task record from messages that are encoded already."""
    return b'{"messages":[' + b",".join(messages) + b'],"source":%d,"number":%d}' % (source, number)


def decode_tasks(value: bytes) -> TaskRecord:
    """The task record in `value`; raises msgspec.ValidationError."""
    return _decode_tasks(value)


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """The JSON bytes of a heartbeat."""
    return _encoder.encode(heartbeat)


def decode_heartbeat(value: bytes) -> Heartbeat:
    """The heartbeat in `value`; raises msgspec.ValidationError."""
    return _decode_heartbeat(value)
