"""What a batch comes to: everything one transaction writes, and what is done after its commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jobledger.domain.aggregates import State
from jobledger.domain.kind import EndedAttempt
from jobledger.domain.values import Answer, Rejection
from jobledger.processors.core.checkpoint import Checkpoint, Destination
from jobledger.processors.core.state_records import outbox_key
from jobledger.schemas.commands import Command
from jobledger.schemas.events import EventRecord
from jobledger.schemas.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A record for another partition or topic, numbered per destination; sent after the commit, in order."""

    destination: Destination
    number: int
    value: bytes

    @property
    def key(self) -> bytes:
        """Its key in `state`."""
        return outbox_key(self.destination, self.number)

    @property
    def topic_letter(self) -> str:
        """c: commands, t: tasks, q: quarantine."""
        return self.destination[0]

    @property
    def partition(self) -> int:
        """Partition of the destination."""
        return int(self.destination[1:])


@dataclass(frozen=True, slots=True)
class EventOut:
    """An event as it is produced: key, value and CloudEvents headers."""

    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Decided:
    """A command and what became of it, for logs and metrics. `offset`: where one that was set aside stood."""

    command: Command | None
    result: str
    rejection: Rejection | Answer | None = None
    offset: int | None = None


class Traced(NamedTuple):
    """The end of an attempt that is traced: its event, what is known of its way, and the tracestate of the report."""

    record: EventRecord
    attempt: EndedAttempt
    tracestate: str


@dataclass(slots=True)
class Plan:
    """One transaction of a partition. `state` maps keys to values, None being a tombstone.

    `outbox` holds the new entries; nobody may send them before the commit. `forgotten` are
    the keys of entries that had arrived and that this transaction deletes. `commands` counts what was decided,
    `unit` names what came last from outside of the batch.
    """

    now_ms: int
    checkpoint: Checkpoint
    events: list[EventOut] = field(default_factory=list)
    records: list[EventRecord] = field(default_factory=list)
    state: dict[bytes, bytes | None] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    outbox: list[OutboxEntry] = field(default_factory=list)
    forgotten: frozenset[bytes] = frozenset()
    decided: list[Decided] = field(default_factory=list)
    traced: list[Traced] = field(default_factory=list)
    timers_fired: int = 0
    #: Those of them that had been due for over a second.
    timers_late: int = 0
    commands: int = 0
    unit: str | None = None
    #: The streams that `records` are about, as they are after all of them; for logs and metrics.
    states: Mapping[str, State] = field(default_factory=dict)
    #: Units that had failed before and went to quarantine with this.
    aside: list[str] = field(default_factory=list)

    @property
    def alone(self) -> str | None:
        """The one command that all of the plan comes from; None when there were several."""
        return self.unit if self.commands == 1 else None

    @property
    def empty(self) -> bool:
        """Nothing was decided and nothing consumed: no transaction is needed."""
        return not (self.state or self.events or self.outcomes or self.decided)
