"""Values that commands and events share."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec.structs import fields

T = TypeVar("T", bound=msgspec.Struct)


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of immutable values; fields that hold their default are left out when written."""


class EventBody(Value, frozen=True, kw_only=True):
    """Base of the events of all kinds.

    `format_level`: the format level (see `levels`) from which on it is written; the releases before don't know it.
    """

    format_level: ClassVar[int] = 1


class CommandBody(Value, frozen=True, kw_only=True):
    """Base of the commands of all kinds.

    `creating`: it brings its stream into being, and is answered with the first outcome when it comes again.
    `remembered`: people send it; a repeat of one of the stream's last ones (same command id) changes nothing.
    `format_level`: the format level (see `levels`) from which on the api sends it.
    """

    creating: ClassVar[bool] = False
    remembered: ClassVar[bool] = False
    format_level: ClassVar[int] = 1


def carrier(base: type[Value], target: type[T], *also: str) -> Callable[..., T]:
    """A function that makes a `target` of a value of `base`: all fields of the base go along, the rest is named.

        submitted = carrier(JobSpec, JobSubmitted)
        event = submitted(command, submitted_at_ms=now, due_at_ms=now)

    The rest is what else the target needs, and those of its fields with a default that `also` names. It is one call,
    compiled once from the names of the fields as dataclasses make their methods: a job goes through six of these on
    its way, and a loop over the names would cost each of them seven times as much.
    """
    taken = base.__struct_fields__
    rest = [one.name for one in fields(target) if one.required and one.name not in taken] + [*also]
    given = [f"{name}=value.{name}" for name in taken] + [f"{name}={name}" for name in rest]
    parameters = ["value", *(["*"] if rest else []), *rest]
    made: Callable[..., T] = eval(f"lambda {', '.join(parameters)}: target({', '.join(given)})", {"target": target})
    return made


#: Ids of workers, tasks and the like, and names of streams, as a record of somebody else may hold them.
Id = Annotated[str, msgspec.Meta(max_length=128)]
StreamId = Annotated[str, msgspec.Meta(max_length=256)]
#: What is handed on from one record to the next without being read.
Passed = Annotated[str, msgspec.Meta(max_length=512)]
#: 1 comes first.
Priority = Annotated[int, msgspec.Meta(ge=1, le=5)]
#: Milliseconds since the epoch, up to the end of the year 9999.
Millis = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class Opaque(msgspec.Struct, frozen=True, omit_defaults=False):
    """Text of a user that the scheduler never reads: payload, result, error message, note.

    `encoding` names how `data` is to be read ("json": `data` is JSON text). A later encoding can hold
    cipher text under a key per tenant; what is hashed or compared is always the stored text.
    """

    data: str
    encoding: str = "json"


class ActorKind(StrEnum):
    """Who can cause an event."""

    USER = "user"
    WORKER = "worker"
    SYSTEM = "system"


class Actor(msgspec.Struct, frozen=True):
    """Who caused a command: a user of the api, a worker, or the scheduler itself."""

    kind: ActorKind
    id: Passed


SYSTEM = Actor(ActorKind.SYSTEM, "scheduler")


class Lineage(Value, frozen=True, kw_only=True):
    """Where a job comes from. Ids are job ids; empty fields are not written."""

    parent: str | None = None
    root: str | None = None
    retry_of: str | None = None
    schedule: str | None = None
    fire_at_ms: int | None = None
    workflow: str | None = None
    workflow_version: int | None = None
    tags: dict[str, str] = {}


class RetryPolicy(Value, frozen=True, kw_only=True):
    """How often and how long after a failure a task is tried again; seconds.

    `give_up_on` names types of errors after which no attempt is of use (a subclass counts as its base).
    """

    max_attempts: int = 3
    initial_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    jitter_ratio: float = 0.1
    give_up_on: tuple[str, ...] = ()


class Code(StrEnum):
    """Why a command was rejected; part of the public contract."""

    ALREADY_ENDED = "ALREADY_ENDED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INVALID = "INVALID"
    INVALID_STATE = "INVALID_STATE"
    NOT_ENABLED = "NOT_ENABLED"
    NOT_FOUND_OR_EXPIRED = "NOT_FOUND_OR_EXPIRED"
    STALE_ASSIGNMENT = "STALE_ASSIGNMENT"
    UNDECIDABLE = "UNDECIDABLE"


class Rejection(Value, frozen=True, kw_only=True):
    """A decision to change nothing. `field` and `value` name what was wrong, when one thing was."""

    code: Code
    message: str
    field: str = ""
    value: str = ""


class Answer(Value, frozen=True, kw_only=True):
    """What an owner answers to a command of kind query, from memory; no event, no version."""

    data: Opaque
