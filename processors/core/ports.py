"""What an owner needs from the outside: a log, a relay, heartbeats, a clock, somebody who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from jobledger.processors.core.plan import OutboxEntry, Plan


class FencedError(RuntimeError):
    """Another owner has opened the partition: this one must not write any more."""


class RefusedRecordError(RuntimeError):
    """A record of the plan was refused for what it is, not for the state of the broker."""


#: Takes (key, value) records of `state` in their order; None: the key is gone. Called in a thread of the log's.
TakeState = Callable[[Iterable[tuple[bytes, bytes | None]]], None]


class Recovered(Protocol):
    """What the log holds of a partition beside its state: number of its last event, end of its commands."""

    @property
    def last_event_seq(self) -> int: ...  # noqa: D102
    @property
    def commands_end(self) -> int: ...  # noqa: D102


class PartitionLog(Protocol):
    """The log as one owner sees it."""

    async def open(self, take: TakeState) -> Recovered:
        """Fence older owners for good, then hand the partition's state to `take`, to its end, some at a time."""

    async def commit(self, plan: Plan) -> None:
        """Write the plan in one transaction. Any exception: the outcome is unknown, open anew.

        Raises FencedError when deposed, RefusedRecordError when the plan itself cannot be written.
        """

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` command records from `offset` on; fewer at the end of the log, none when there are none yet.

        When the log begins behind `offset`, its first records; raises LostCommandError when it has none at all.
        """

    async def close(self) -> None:
        """Let go of the clients."""


class OutboxHolder(Protocol):
    """An owner, as the relay sees it."""

    partition: int

    def unacknowledged(self) -> list[tuple[bytes, OutboxEntry]]:
        """Outbox entries that may not have arrived yet, in order."""

    def acknowledge(self, key: bytes) -> None:
        """An entry has arrived."""


class Relay(Protocol):
    """Sends outbox entries after their commit, in order, until they have arrived."""

    def register(self, holder: OutboxHolder) -> None:
        """An owner serves: send what is left of its outbox."""

    def unregister(self, holder: OutboxHolder) -> None:
        """The owner has let go of its partition."""

    def send(self, holder: OutboxHolder, entries: list[tuple[bytes, OutboxEntry]]) -> None:
        """Send new entries."""


class Heartbeats(Protocol):
    """When workers were heard of, on a monotonic clock in seconds."""

    @property
    def seen_until(self) -> float:
        """Everything that workers had sent by this time has been read."""

    def heard_at(self, incarnation: str) -> float:
        """When a worker was last heard of; 0: never."""


class Clock(Protocol):
    """Wall time, which dev and tests can move, and monotonic time, which nobody can."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch. Raises ClockWrongError when that is known to be wrong; see WatchedClock."""

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward, also while the machine is suspended."""


class Observer(Protocol):
    """Logs and metrics."""

    def opened(self, partition: int, seconds: float, live_jobs: int) -> None:
        """The partition is served."""

    def closed(self, partition: int, reason: str) -> None:
        """The partition is not served any more."""

    def reopened(self, partition: int, reason: str, error: str) -> None:
        """The owner forgets its memory and starts over."""

    def refused(self, partition: int, error: str) -> None:
        """The partition stays closed until somebody repairs it."""

    def turned(self, partition: int, collect_seconds: float) -> None:
        """A turn of the batch loop has collected what waits."""

    def gaps(self, partition: int, overdue: Mapping[int, tuple[int, int]]) -> None:
        """Gaps in the outboxes of other partitions that no repetition has closed in time: for each source the
        number that is missing and the highest one seen. Empty: there are none any more."""

    def committed(self, partition: int, plan: Plan, seconds: float) -> None:
        """A transaction is committed."""
