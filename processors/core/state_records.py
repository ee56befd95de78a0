"""Records of the compacted `state` topic: what a key means, and values that carry class and schema version.

Keys: `s|stream` snapshot, `letter|stream|key` a part of a stream (`w|queue|incarnation` worker of a queue,
`t|queue|job/task` task of a queue), `o|destination|number` outbox entry, `p|number` commands that a batch had no room
for, `k|tenant|digest` idempotency key, `e|stream` stub of an ended stream, `n|stream|command id` command that changed
nothing, `c|` checkpoint. Values: `<class>/<version>|<JSON>`; a tombstone deletes.

A class names its version as eventsourcing's aggregates do: `class_version`, 1 where it has none, and for each step up
a static `upcast_v1_v2(state)` that changes the decoded JSON of the older version in place. Every version is read for
ever. `class_levels` says from which format level on a version is written (`{2: 2}`: version 2 from level 2 on); until
then an owner writes the version before, by a static `downcast_v2_v1(state)` where the JSON differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from jobledger.domain.aggregates import AGGREGATES
from jobledger.domain.kind import Part
from jobledger.domain.levels import NEWEST, OLDEST
from jobledger.processors.core.checkpoint import Checkpoint, Pending

CHECKPOINT_KEY = b"c|"
#: How the keys of commands that changed nothing begin: no event tells of them.
UNCHANGED = b"n|"
_encode = msgspec.json.Encoder().encode


class Stub(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is left of an ended stream for the deduplication window.

    `seq` is that of the stream's first event; `submitted_events` is how many the submission left, as in KeyEntry.
    `recent` names the command of a user that came last (a cancel), so that its repeat gets its first outcome.
    """

    seq: int
    version: int
    status: str
    ended_at_ms: int
    expires_at_ms: int
    key_digest: str | None = None
    request_digest: str | None = None
    recent: list[str] = []
    submitted_events: int = 1


class KeyEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An idempotency key: the job it stands for. `expires_at_ms` 0 while that job lives.

    The submission left `submitted_events` events from `seq` on: the position that was told is that of the last one.
    """

    stream: str
    seq: int
    request_digest: str | None = None
    expires_at_ms: int = 0
    submitted_events: int = 1


class PendingPart(msgspec.Struct, frozen=True):
    """Commands that a batch had no room for, in the order in which they run."""

    items: list[Pending]


class UnreadableStateError(ValueError):
    """A state record of a class or version that this release cannot read, or that is broken."""

    def at(self, key: bytes) -> UnreadableStateError:
        """The same with the record's key."""
        return UnreadableStateError(f"Record '{key.decode(errors='replace')[:200]}' of the state: {self}")


class Decoder(Protocol):
    """Reads the JSON of one class in one version."""

    def decode(self, data: bytes | memoryview, /) -> Any: ...  # noqa: D102


class _Upcaster:
    """Reads an older version of a class: raises its JSON step by step, then reads it as the newest."""

    def __init__(self, cls: type[Any], steps: list[Callable[[dict[str, Any]], None]]) -> None:
        self._cls = cls
        self._steps = steps

    def decode(self, data: bytes | memoryview) -> Any:
        state = msgspec.json.decode(data, type=dict[str, Any])
        for step in self._steps:
            step(state)
        return msgspec.convert(state, self._cls, str_keys=True)


def class_version(cls: type[Any]) -> int:
    """The version in which values of a class are written."""
    return getattr(cls, "class_version", 1)


def decoders(name: str, cls: type[Any]) -> dict[bytes, Decoder]:
    """What reads a class, by class and version: each from 1 to the newest. Raises AttributeError for a missing step."""
    newest = class_version(cls)
    found: dict[bytes, Decoder] = {b"%s/%d" % (name.encode(), newest): msgspec.json.Decoder(cls)}
    steps: list[Callable[[dict[str, Any]], None]] = []
    for version in range(newest - 1, 0, -1):
        steps = [getattr(cls, f"upcast_v{version}_v{version + 1}"), *steps]
        found[b"%s/%d" % (name.encode(), version)] = _Upcaster(cls, steps)
    return found


def prefix(name: str, cls: type[Any], version: int | None = None) -> bytes:
    """How values of a class begin, in the newest version or another."""
    return b"%s/%d|" % (name.encode(), version or class_version(cls))


#: What `version_at` has found, by class and level: it is asked for each record.
_VERSION_AT: dict[tuple[type[Any], int], int] = {}


def version_at(cls: type[Any], level: int) -> int:
    """The version in which values of a class are written at a format level: the newest that the level has."""
    found = _VERSION_AT.get((cls, level))
    if found is None:
        levels: Mapping[int, int] = getattr(cls, "class_levels", {})
        found = next(v for v in range(class_version(cls), 0, -1) if levels.get(v, OLDEST) <= level)
        _VERSION_AT[cls, level] = found
    return found


#: What stands in `state`, by the name in its records.
STATE_CLASSES: dict[str, type[Any]] = {
    **{kind.name: kind.snapshot for kind in AGGREGATES.values()},
    **{part.name: part.record for kind in AGGREGATES.values() for part in kind.parts},
    "stub": Stub,
    "key": KeyEntry,
    "checkpoint": Checkpoint,
    "pending": PendingPart,
}
_PREFIX = {cls: prefix(name, cls) for name, cls in STATE_CLASSES.items()}
_FORM = re.compile(rb"[a-z_]+/[0-9]+")
_DECODERS = {form: decoder for name, cls in STATE_CLASSES.items() for form, decoder in decoders(name, cls).items()}
#: Snapshots of which there are many, in their newest version, by how they begin: on the hot path.
_PACKED = {_PREFIX[kind.snapshot]: msgspec.json.Decoder(kind.snapshot) for kind in AGGREGATES.values() if kind.packed}
#: What is stored beside the snapshots of the kinds, by the letter of its keys.
PARTS: dict[bytes, Part] = {part.letter.encode(): part for kind in AGGREGATES.values() for part in kind.parts}


def encode_state(value: Any, level: int = NEWEST) -> bytes:
    """The bytes of a state record's value, in the version of its class that the format level has."""
    cls = type(value)
    if level < NEWEST and version_at(cls, level) < class_version(cls):
        return _encode_older(value, version_at(cls, level))
    return _PREFIX[cls] + _encode(value)


def _encode_older(value: Any, version: int) -> bytes:
    """Steps down through the versions; a class whose older version only lacks fields that hold their defaults has none
    to take."""
    cls = type(value)
    begin = prefix(_PREFIX[cls].partition(b"/")[0].decode(), cls, version)
    names = [f"downcast_v{step}_v{step - 1}" for step in range(class_version(cls), version, -1)]
    steps = [getattr(cls, name) for name in names if hasattr(cls, name)]
    if not steps:
        return begin + _encode(value)
    state = msgspec.to_builtins(value, str_keys=True)
    for step in steps:
        step(state)
    return begin + _encode(state)


def join_pending(items: list[bytes], level: int = NEWEST) -> bytes:
    """The value of a PendingPart from items that are encoded already, in the version that the format level has."""
    return prefix("pending", PendingPart, version_at(PendingPart, level)) + b'{"items":[' + b",".join(items) + b"]}"


def decode_state(data: bytes) -> Any:
    """The value in a state record, raised to the newest version of its class.

    Raises UnreadableStateError for a class that this release does not know, for a version newer than it knows, and for
    what is no such record.
    """
    head, _, body = data.partition(b"|")
    decoder = _DECODERS.get(head)
    form = head[:60].decode(errors="replace")
    if decoder is None and _FORM.fullmatch(head):
        raise UnreadableStateError(f"State record of class/version '{form}' needs another release.")
    if decoder is None:
        raise UnreadableStateError(f"What begins with '{form}' is no state record: something else has written it.")
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableStateError(f"State record of class/version '{form}' is broken: {error}.") from error


def decode_snapshot(data: bytes) -> Any:
    """`decode_state` for the snapshot of a packed kind."""
    for prefix, decoder in _PACKED.items():
        if data.startswith(prefix):
            try:
                return decoder.decode(memoryview(data)[len(prefix) :])
            except (msgspec.MsgspecError, ValueError):
                break  # the other way tells what is wrong
    return decode_state(data)


def snapshot_key(stream: str) -> bytes:
    """Key of a stream's snapshot."""
    return b"s|" + stream.encode()


def stub_key(stream: str) -> bytes:
    """Key of an ended stream's stub."""
    return b"e|" + stream.encode()


def idempotency_key(tenant: str, digest: str) -> bytes:
    """Key of an idempotency key's entry."""
    return f"k|{tenant}|{digest}".encode()


def part_name(letter: str, stream: str, key: str) -> str:
    """Names a record of a part: as its key in `state` does."""
    return f"{letter}|{stream}|{key}"


def split_part_name(name: str) -> tuple[str, str, str] | None:
    """(letter, stream, key) of a record of a part; None for the id of a stream, whose type is longer than a letter."""
    letter, bar, rest = name.partition("|")
    if not bar or len(letter) != 1:
        return None
    stream, _, key = rest.partition("|")
    return letter, stream, key


def part_key(letter: str, stream: str, key: str) -> bytes:
    """Key of a record of a part of a stream."""
    return part_name(letter, stream, key).encode()


def outbox_key(destination: str, number: int) -> bytes:
    """Key of an outbox entry."""
    return f"o|{destination}|{number}".encode()


def pending_key(number: int) -> bytes:
    """Key of commands that a batch had no room for."""
    return b"p|%d" % number


def unchanged_key(stream: str, command_id: str) -> bytes:
    """Key of a command that was accepted and changed nothing."""
    return f"n|{stream}|{command_id}".encode()
