"""What the worker and the processes of its pool say to each other: JSON with its length (4 bytes) before it."""

from __future__ import annotations

import struct

import msgspec

from jobledger.domain.values import Opaque
from jobledger.telemetry.log_line import Level
from jobledger.workers.attempt import AttemptEnd
from jobledger.workers.task_info import TaskInfo

LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 4 * 1024 * 1024


class PoolMessage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the messages."""


class Setup(PoolMessage, frozen=True, kw_only=True):
    """First message to a process: where modules are found, which to load, how to log."""

    path: list[str]
    modules: list[str]
    instance_id: str
    log_level: Level


class Run(PoolMessage, frozen=True, kw_only=True):
    """Call a handler; answered by one Ended.

    `recorded`: its calls to others are wanted with that. `log_levels`: those that were changed in the worker.
    """

    info: TaskInfo
    checkpoint: Opaque | None = None
    recorded: bool = False
    log_levels: dict[str, Level] = {}


class Cancel(PoolMessage, frozen=True, kw_only=True):
    """Set the cancel flag of the running call."""

    reason: str


class Ready(PoolMessage, frozen=True, kw_only=True):
    """The handlers are loaded."""


class LoadFailed(PoolMessage, frozen=True, kw_only=True):
    """They could not be loaded; the process ends."""

    message: str


class Saved(PoolMessage, frozen=True, kw_only=True):
    """The handler saved a checkpoint."""

    checkpoint: Opaque
    progress: float | None = None


class Ended(PoolMessage, frozen=True, kw_only=True):
    """The call has ended."""

    end: AttemptEnd


_encoder = msgspec.json.Encoder()
_to_child: msgspec.json.Decoder[Setup | Run | Cancel] = msgspec.json.Decoder(Setup | Run | Cancel)
_to_worker: msgspec.json.Decoder[Ready | LoadFailed | Saved | Ended] = msgspec.json.Decoder(
    Ready | LoadFailed | Saved | Ended
)


def frame(message: PoolMessage) -> bytes:
    """The bytes of a message on the pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_for_child(body: bytes) -> Setup | Run | Cancel:
    """A message to a process of the pool."""
    return _to_child.decode(body)


def decode_for_worker(body: bytes) -> Ready | LoadFailed | Saved | Ended:
    """A message from a process of the pool."""
    return _to_worker.decode(body)
