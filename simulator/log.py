"""The log of the simulated world: committed records only, and a network that may hold them up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from jobledger.domain.worker_messages import Heartbeat
from jobledger.processors.core.plan import EventOut, Plan
from jobledger.processors.core.ports import FencedError
from jobledger.processors.core.retained import Retained
from jobledger.schemas.outcomes import Outcome
from jobledger.schemas.topics import TASK_PARTITIONS


class MemoryRetained(Retained):
    """`Retained` in a dict: the simulator opens far more partitions than it keeps stubs."""

    def __init__(self) -> None:
        self._rows: dict[bytes, tuple[bytes, int]] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        row = self._rows.get(key)
        return None if row is None else row[0]

    def put_many(self, rows: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Set (key, value, expires_at_ms) rows."""
        self._rows.update((key, (value, expires)) for key, value, expires in rows)

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Up to `limit` keys whose time has passed."""
        return [key for key, (_, expires) in self._rows.items() if 0 < expires <= now_ms][:limit]

    def remove_many(self, keys: Iterable[bytes]) -> None:
        """Forget keys."""
        for key in keys:
            self._rows.pop(key, None)

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (key, value)."""
        return [(key, value) for key, (value, _) in self._rows.items()]

    def close(self) -> None:
        """Drop everything."""
        self._rows.clear()


@dataclass
class PartitionRecords:
    """What is committed of one partition. `epoch` grows with each owner that opens it."""

    commands: list[bytes] = field(default_factory=list)
    events: list[EventOut] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    epoch: int = 0


CommitListener = Callable[[int, Plan], None]


class MemoryLog:
    """All topics of a cell. `listeners` hear of every committed transaction."""

    def __init__(self, partitions: int) -> None:
        self.partitions = [PartitionRecords() for _ in range(partitions)]
        self.tasks: list[list[bytes]] = [[] for _ in range(TASK_PARTITIONS)]
        self.quarantine: list[bytes] = []
        self.heartbeats: list[Heartbeat] = []
        self.listeners: list[CommitListener] = []

    def open(self, partition: int) -> int:
        """Fence older owners of the partition for good; returns the epoch to commit with."""
        records = self.partitions[partition]
        records.epoch += 1
        return records.epoch

    def commit(self, partition: int, epoch: int, plan: Plan) -> None:
        """Apply a plan as one transaction; raises FencedError for an owner that has been deposed."""
        if not self.may_commit(partition, epoch):
            raise FencedError(f"Partition {partition} has been opened by a later owner.")
        records = self.partitions[partition]
        records.events.extend(plan.events)
        records.outcomes.extend(plan.outcomes)
        for key, value in plan.state.items():
            if value is None:
                records.state.pop(key, None)
            else:
                records.state[key] = value
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


@dataclass(frozen=True, slots=True)
class Flying:
    """A record that a producer has sent and the log has not got yet; `arrived` is its acknowledgement."""

    destination: str
    value: bytes
    arrived: Callable[[], None]


class Network:
    """Keeps the order per producer and destination, as an idempotent producer does; across producers there is none."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._channels: dict[tuple[str, str], deque[Flying]] = {}

    def send(
        self, producer: str, destination: str, value: bytes, arrived: Callable[[], None], *, hold: bool = False
    ) -> None:
        """Send a record; `hold` keeps it, and what comes behind it, in flight until `deliver`."""
        channel = self._channels.get((producer, destination))
        if hold or channel:
            self._channels.setdefault((producer, destination), deque()).append(Flying(destination, value, arrived))
        else:
            self._log.append(destination, value)
            arrived()

    def deliver(self, choice: int = 0) -> None:
        """The first record of one of the held channels arrives."""
        channels = list(self._channels)
        if not channels:
            return
        name = channels[choice % len(channels)]
        channel = self._channels[name]
        one = channel.popleft()
        if not channel:
            del self._channels[name]
        self._log.append(one.destination, one.value)
        one.arrived()

    def deliver_all(self) -> None:
        """Everything arrives."""
        while self._channels:
            self.deliver()
