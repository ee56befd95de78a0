"""What the rest of the product knows of a kind of stream; `aggregates.AGGREGATES` has one entry for each.

Whoever decides, stores, restores or verifies streams goes by these entries and by no kind's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from jobledger.domain.commands import AnyCommand
from jobledger.domain.effects import Effect
from jobledger.domain.values import Actor, Answer, Lineage, Rejection


class Head(Protocol):
    """What every stream has: it stands in the snapshot. `recent` names the last commands of users."""

    id: str
    version: int
    created_seq: int
    recent: list[str]


class Streamed(Protocol):
    """A state: a snapshot, or a snapshot with what is stored beside it."""

    @property
    def head(self) -> Any:
        """The snapshot, which is a `Head`."""
        ...


class Recorded(Protocol):
    """An event as it stands in the log: what happened, and the envelope that every event carries."""

    @property
    def originator_id(self) -> str: ...  # noqa: D102
    @property
    def originator_version(self) -> int: ...  # noqa: D102
    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def command_id(self) -> str: ...  # noqa: D102
    @property
    def actor(self) -> Actor: ...  # noqa: D102
    @property
    def correlation_id(self) -> str | None: ...  # noqa: D102
    @property
    def traceparent(self) -> str | None: ...  # noqa: D102
    @property
    def lineage(self) -> Lineage: ...  # noqa: D102
    @property
    def data(self) -> Any: ...  # noqa: D102


class Origin(NamedTuple):
    """What every event of a stream carries on from its beginning."""

    lineage: Lineage = Lineage()
    correlation_id: str | None = None
    traceparent: str | None = None


#: Keys of parts that an event has touched, by its class.
Changed = Mapping[type[Any], Callable[[Any], Iterable[str]]]


class Timer(NamedTuple):
    """The one time at which a stream wants to be woken.

    `next_ms` gives it, None: not at all. `command` is what is decided then.
    """

    next_ms: Callable[[Any], int | None]
    command: Callable[[int], AnyCommand]


class PartTimer(NamedTuple):
    """The one time at which a stream wants to be woken for the sake of one of its parts' records.

    `next_ms` gives it from the record, None: not at all. `command` is what is decided then, by the record's key.
    """

    next_ms: Callable[[Any], int | None]
    command: Callable[[str, int], AnyCommand]


class Part(NamedTuple):
    """What is stored beside the snapshots of a kind, one record each, under a key of its own.

    `name` is that of the record's class in `state`, `letter` the first of its keys. `of` gives a state's records by
    key. `changed` gives the keys that an event has touched, by the event's class: one that is gone is deleted.
    `packed`: they rest as their bytes and are read one by one when they are wanted, so that a decision costs what it
    touches, however many there are; `assemble` then keeps the mapping that it is given.
    """

    name: str
    letter: str
    record: type[Any]
    of: Callable[[Any], Mapping[str, Any]]
    changed: Changed
    packed: bool = False
    timer: PartTimer | None = None


class Settling(NamedTuple):
    """What is decided once for a stream and batch, behind everything else, when one of the events `after` came."""

    after: frozenset[type[Any]]
    command: Callable[[], AnyCommand]


class Submission(NamedTuple):
    """How streams begin by a command of a user that names the request: it gets the first outcome when it comes again.

    Command and event have a `key_digest` and a `request_digest`, the state too. `first_events` is how many events the
    beginning has left.
    """

    command: type[Any]
    event: type[Any]
    first_events: Callable[[Any], int]


class Remains(NamedTuple):
    """What is kept of a stream that has ended, for the deduplication window."""

    status: str
    ended_at_ms: int | None
    recent: list[str]


class Ending(NamedTuple):
    """How streams end for good.

    `remains` is None for one that lives; `reject` tells a user's command, by the status that remains, that it ended.
    """

    remains: Callable[[Any], Remains | None]
    reject: Callable[[str, str, Any], Rejection]


class EndedAttempt(NamedTuple):
    """An attempt that has ended, with its way to there: for spans, which are made after the end and only of some.

    `submitter`: the traceparent of its submission, '' if there was none; `waited_for`: it belongs to that. Times are
    ms since the epoch: when it was asked for, ready in its `queue` (a stream), assigned to a worker (None: never, or
    nobody here knows), ended. `error`: how it failed; ''.
    """

    execution_id: str
    attempt: int
    assignment: int
    submitter: str
    waited_for: bool
    queue: str
    asked_at_ms: int
    ready_at_ms: int
    assigned_at_ms: int | None
    ended_at_ms: int
    error: str


#: By the event that ends an attempt: what it tells of it, from the state before, the event, the body of its command,
#: and whether its trace is recorded. None: nobody traces it.
AttemptEnds = Mapping[Any, Callable[[Any, Any, Any, bool], EndedAttempt | None]]


def _no_origin(state: Any, command: Any) -> Origin:
    return _NO_ORIGIN


def _without_parts(snapshot: Any, parts: Mapping[str, MutableMapping[str, Any]]) -> Any:
    return snapshot


_NO_ORIGIN = Origin()


class Kind(NamedTuple):
    """One kind of stream. `name` is how its streams' ids begin and what its snapshots are called in `state`.

    The classes of snapshots and of parts' records name the version of their shape: `class_version`, with a static
    `upcast_v1_v2(state)` for each step up.

    `packed`: there are so many that they rest as the bytes of their snapshots, and are decoded when they are wanted.
    `held` gives what a silent worker would hold up, by the worker's incarnation: the command that ends its lease.
    """

    name: str
    snapshot: type[Any]
    created_by: type[Any]
    create: Callable[[Recorded], Any]
    decide: Callable[[str, Any, Any, int], list[Any] | Rejection | Answer]
    evolve: Mapping[Any, Callable[[Any, Any], None]]
    react: Callable[[Any, Any], list[Effect]]
    packed: bool = False
    parts: tuple[Part, ...] = ()
    #: A state from its snapshot and its parts' records, by the part's name and by key.
    assemble: Callable[[Any, Mapping[str, MutableMapping[str, Any]]], Any] = _without_parts
    origin: Callable[[Any, Any], Origin] = _no_origin
    status: Callable[[Any], str | None] = lambda state: None
    #: The status after an event, from that before it; None for what has none, or where the event alone doesn't tell.
    status_after: Callable[[Any, Any], Any] = lambda status, event: None
    timer: Timer | None = None
    settling: Settling | None = None
    submission: Submission | None = None
    ending: Ending | None = None
    held: Callable[[Any], Iterable[tuple[str, AnyCommand]]] | None = None
    attempt_ends: AttemptEnds = MappingProxyType({})
    #: The format level that a state enables on its partition; see `levels`.
    level: Callable[[Any], int] | None = None
