"""The broker of the simulated world: what is committed of every topic, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jobledger.domain.worker_messages import Heartbeat
from jobledger.processors.core.plan import EventOut, Plan
from jobledger.processors.core.ports import FencedError, RefusedRecordError
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.schemas.outcomes import Outcome, encode_outcome
from jobledger.schemas.topics import TASK_PARTITIONS

#: What a record needs on the wire beside key, value and headers; Kafka's bound is on the batch that holds it.
RECORD_OVERHEAD_BYTES = 100


@dataclass
class PartitionRecords:
    """What is committed of one partition. `epoch` grows with each owner that opens it.

    The place of a record in `commands` is its offset; None stands where no record is, as behind the mark of
    a transaction. Before `commands_begin` retention has taken everything.
    """

    commands: list[bytes | None] = field(default_factory=list)
    commands_begin: int = 0
    events: list[EventOut] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    epoch: int = 0
    #: What the group knows: the first command that the last transaction had not decided.
    group_offset: int = 0
    transactions: int = 0
    changes: int = 0
    #: Offsets of `commands` that hold what no part of the product has written.
    foreign: set[int] = field(default_factory=set)


CommitListener = Callable[[int, Plan], None]


class MemoryBroker:
    """All topics of a cell. `listeners` hear of every committed transaction."""

    def __init__(self, partitions: int, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.partitions = [PartitionRecords() for _ in range(partitions)]
        self.tasks: list[list[bytes]] = [[] for _ in range(TASK_PARTITIONS)]
        self.quarantine: list[bytes] = []
        self.heartbeats: list[Heartbeat] = []
        self.listeners: list[CommitListener] = []
        self.max_message_bytes = max_message_bytes
        self.largest_bytes = 0
        self.transactions = 0
        #: Those of them that changed anything: not an idle owner's, which writes its checkpoint as it is.
        self.changes = 0

    def open(self, partition: int) -> int:
        """Fence older owners of the partition for good; returns the epoch to commit with."""
        records = self.partitions[partition]
        records.epoch += 1
        return records.epoch

    def check_sizes(self, plan: Plan) -> None:
        """Raise RefusedRecordError when a record of the plan is larger than this broker takes."""
        for event in plan.events:
            self._check("events", event.key, event.value, sum(len(k) + len(v or "") for k, v in event.headers))
        for key, value in plan.state.items():
            self._check("state", key, value or b"")
        for outcome in plan.outcomes:
            self._check("outcomes", outcome.command_id.encode(), encode_outcome(outcome))

    def _check(self, topic: str, key: bytes, value: bytes, headers: int = 0) -> None:
        size = len(key) + len(value) + headers
        self.largest_bytes = max(self.largest_bytes, size)
        if not self.takes(size):
            raise RefusedRecordError(f"MSG_SIZE_TOO_LARGE: {size} bytes for '{topic}', key {key[:80]!r}")

    def takes(self, size: int) -> bool:
        """Whether a record whose key, value and headers have that many bytes is not too large."""
        return size + RECORD_OVERHEAD_BYTES <= self.max_message_bytes

    def commit(self, partition: int, epoch: int, plan: Plan) -> None:
        """Apply a plan as one transaction; raises FencedError for an owner that has been deposed."""
        if not self.may_commit(partition, epoch):
            raise FencedError(f"Partition {partition} has been opened by a later owner.")
        records = self.partitions[partition]
        if plan.events or plan.outcomes or any(records.state.get(key) != value for key, value in plan.state.items()):
            self.changes += 1
            records.changes += 1
        records.events.extend(plan.events)
        records.outcomes.extend(plan.outcomes)
        for key, value in plan.state.items():
            if value is None:
                records.state.pop(key, None)
            else:
                records.state[key] = value
        records.group_offset = plan.checkpoint.offset
        records.transactions += 1
        self.transactions += 1
        for listener in self.listeners:
            listener(partition, plan)

    def may_commit(self, partition: int, epoch: int) -> bool:
        """Whether `epoch` is that of the newest owner."""
        return self.partitions[partition].epoch == epoch

    def append(self, destination: str, value: bytes) -> None:
        """A plain record on `commands` (c3), `tasks` (t5) or `quarantine` (q0)."""
        letter, partition = destination[0], int(destination[1:])
        if letter == "c":
            self.partitions[partition].commands.append(value)
        elif letter == "t":
            self.tasks[partition].append(value)
        else:
            self.quarantine.append(value)
