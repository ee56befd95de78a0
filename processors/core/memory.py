"""What an owner remembers of its partition.

Memory changes while a batch is decided, so a plan that is not committed means that it is thrown away and rebuilt from
`state`. The outbox alone, which others look at meanwhile, changes only by `Memory.committed`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from jobledger.domain.aggregates import AGGREGATES, State, kind_of
from jobledger.domain.commands import AnyCommand
from jobledger.domain.kind import Kind
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.part_records import PartRecords
from jobledger.processors.core.pending import PendingQueue
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import decode_snapshot, decode_state, part_key, part_name
from jobledger.processors.core.timers import Timers

#: Late timers that are counted at most.
MAX_LATE = 10_000
#: How the ids of timers' and leases' commands begin; those of other sources never stand for a unit.
OWN_UNITS = ("timer/", "lease/")
#: How many timers and leases that failed are remembered.
MAX_ASIDE = 64
_NOTHING: Mapping[str, MutableMapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one batch and how long ended streams are remembered."""

    commands: int = 500
    records: int = 2_000
    bytes: int = 2 * 1024 * 1024
    expiries: int = 200
    #: How far commands may follow from one another on this partition before the rest waits for the next batch.
    chain_depth: int = 16
    dedup_window_ms: int = 86_400_000
    #: How long a clock behind the partition's time is waited for. A time further ahead was never right.
    ahead_ms: int = 2_000


class Memory:
    """Everything an owner knows of its partition.

    `streams` holds the live ones by kind and id: states, or the bytes of their snapshots where a kind is `packed`.
    `parts` holds the records of parts that are `packed`, by the part's letter and the stream. `orphans` are the keys of
    records of parts whose streams have ended: they are deleted some with each batch.
    """

    def __init__(self, partition: int, checkpoint: Checkpoint, limits: Limits, retained: Retained) -> None:
        self.partition = partition
        self.checkpoint = checkpoint
        self.limits = limits
        self.retained = retained
        self.streams: dict[str, dict[str, Any]] = {name: {} for name in AGGREGATES}
        self.parts: dict[tuple[str, str], PartRecords[Any]] = {}
        self.orphans: OrderedDict[bytes, None] = OrderedDict()
        self._read: dict[str, Kind] = {}
        self.timers = Timers()
        self.pending = PendingQueue(checkpoint, {})
        self.outbox: dict[bytes, OutboxEntry] = {}
        self.acknowledged: set[bytes] = set()
        #: What has failed when it was decided, by its unit: why. It goes to quarantine instead.
        self.aside: dict[str, str] = {}

    # -- lookups -------------------------------------------------------------------------------------------------

    def load(self, stream: str) -> State | None:
        """The live state of a stream. A packed one is decoded anew each time: the batch keeps what it touches.

        Raises KeyError for a stream of no kind.
        """
        kind = kind_of(stream)
        kept: Any = self.streams[kind.name].get(stream)
        if kept is None:
            return None
        state: State
        if not kind.packed:
            state = kept
            if kind.parts:
                self._read[stream] = kind
        else:
            snapshot = decode_snapshot(kept)
            state = self.assemble(kind, stream, snapshot) if kind.parts else snapshot
        return state

    def assemble(
        self, kind: Kind, stream: str, snapshot: Any, unpacked: Mapping[str, MutableMapping[str, Any]] = _NOTHING
    ) -> State:
        """A state over the records of its packed parts, which rest here, and the others, by the part's name."""
        self._read[stream] = kind
        parts: dict[str, MutableMapping[str, Any]] = {}
        for part in kind.parts:
            if part.packed:
                parts[part.name] = self.parts.setdefault((part.letter, stream), PartRecords(decode_state))
            else:
                parts[part.name] = unpacked.get(part.name, {})
        state: State = kind.assemble(snapshot, parts)
        return state

    def begin(self, kind: Kind, stream: str, created: State) -> State:
        """The state of a stream after its first event, over records that rest here: those that the event has made."""
        made: dict[str, Mapping[str, Any]] = {part.name: dict(part.of(created)) for part in kind.parts}
        state = self.assemble(kind, stream, created.head, {part.name: {} for part in kind.parts})
        for part in kind.parts:
            records = part.of(state)
            assert isinstance(records, MutableMapping)
            records.update(made[part.name])
        return state

    def close_parts(self) -> None:
        """The batch is written: what it has read of parts rests again."""
        for stream, kind in self._read.items():
            for part in kind.parts:
                records = self.parts.get((part.letter, stream))
                if records is not None:
                    records.close()
                    if not records and kind.packed:  # there are many such streams, and few have any
                        del self.parts[part.letter, stream]
        self._read.clear()

    def time_ms(self, clock_ms: int) -> int:
        """The time to decide by: the clock's, or the partition's own while that is a little ahead of it.

        A partition's time that is far ahead was written by a clock that was wrong. Timers and retries would stand
        still until the clock has come there: they go by the clock, and only the stamps of events stay at that time.
        """
        ahead = self.checkpoint.now_ms - clock_ms
        return self.checkpoint.now_ms if 0 < ahead <= self.limits.ahead_ms else clock_ms

    def next_due_ms(self) -> int | None:
        """When the earliest timer falls due."""
        return self.timers.first_ms()

    def due_before(self, ms: int) -> list[int]:
        """Due times of timers that fell due before `ms`, of 10,000 at most."""
        return self.timers.before(ms, MAX_LATE)

    @property
    def unfinished(self) -> bool:
        """Whether the last batch left something that can be done at once."""
        return bool(self.pending or self.orphans)

    @property
    def live(self) -> int:
        """How many streams live of the kinds that have many."""
        return sum(len(self.streams[kind.name]) for kind in AGGREGATES.values() if kind.packed)

    @property
    def has_leased(self) -> bool:
        """Whether there is any stream that has something to do with leases of workers."""
        return any(kind.held is not None and self.streams[kind.name] for kind in AGGREGATES.values())

    def leased(self) -> Iterator[tuple[str, str, AnyCommand]]:
        """What silent workers would hold up: the stream, the worker's incarnation, the command that ends its lease."""
        for kind in AGGREGATES.values():
            if kind.held is not None:
                for stream, state in self.streams[kind.name].items():
                    for incarnation, command in kind.held(state):
                        yield stream, incarnation, command

    # -- after a decision: what the batch touched becomes memory --------------------------------------------------

    def keep(self, stream: str, state: State, data: bytes) -> None:
        """Remember a live stream, whose snapshot stands in `state` as `data`, and its timer."""
        kind = kind_of(stream)
        self.streams[kind.name][stream] = data if kind.packed else state
        if kind.timer is not None:
            self.timers.set(stream, kind.timer.next_ms(state))

    def forget(self, stream: str, state: State) -> None:
        """The stream has ended; its stub stands in `retained`. What it has left of parts is to be deleted."""
        kind = kind_of(stream)
        self.streams[kind.name].pop(stream, None)
        self.timers.set(stream, None)
        for part in kind.parts:
            for key in part.of(state):
                self.orphans[part_key(part.letter, stream, key)] = None
                if part.timer is not None:
                    self.timers.set(part_name(part.letter, stream, key), None)
            self.parts.pop((part.letter, stream), None)

    def committed(self, plan: Plan) -> None:
        """The plan stands in the log: what it sends may be seen by the relay now, and not before."""
        self.outbox.update((entry.key, entry) for entry in plan.outbox)
        self.acknowledged.difference_update(plan.forgotten)

    def acknowledge(self, key: bytes) -> None:
        """An outbox entry has arrived; the next transaction deletes it."""
        if self.outbox.pop(key, None) is not None:
            self.acknowledged.add(key)

    def note_aside(self, unit: str) -> None:
        """A command was set aside; one of the owner itself would come back, and must not."""
        if unit.startswith(OWN_UNITS):
            self.checkpoint.aside = [*self.checkpoint.aside, unit][-MAX_ASIDE:]


def timer_id(owner: str, due_ms: int) -> str:
    """The id of the command by which a timer fires; `owner`: a stream, or a record of a part by its `part_name`."""
    return f"timer/{owner}/{due_ms}"
