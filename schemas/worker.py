"""Records of the worker protocol: inboxes on `<cell>.tasks`, liveness on `<cell>.heartbeats`."""

from __future__ import annotations

from collections.abc import Callable

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


class RawTaskRecord(Value, frozen=True, kw_only=True):
    """The same record read without looking into the messages, to tell the broken one from the good ones."""

    messages: list[msgspec.Raw]


_encoder = msgspec.json.Encoder()
_decode_raw_tasks = decoder(RawTaskRecord)
_decode_message: Callable[[bytes], AnyWorkerMessage] = decoder(AnyWorkerMessage)  # type: ignore[arg-type]
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


def read_tasks(value: bytes) -> tuple[list[AnyWorkerMessage], list[str]]:
    """The messages of a task record that can be read, and what is wrong with each of the others.

    Raises msgspec.DecodeError or UnicodeDecodeError when the record itself can't be read.
    """
    try:
        return decode_tasks(value).messages, []
    except (msgspec.DecodeError, UnicodeDecodeError):
        raw = _decode_raw_tasks(value)
    good: list[AnyWorkerMessage] = []
    faults: list[str] = []
    for one in raw.messages:
        try:
            good.append(_decode_message(one))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            faults.append(str(error))
    return good, faults


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """The JSON bytes of a heartbeat."""
    return _encoder.encode(heartbeat)


def decode_heartbeat(value: bytes) -> Heartbeat:
    """The heartbeat in `value`; raises msgspec.ValidationError."""
    return _decode_heartbeat(value)
