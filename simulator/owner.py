"""An owner of a partition in the simulated world: the machine of the scheduler, taken step by step.

The steps are those of `processors.core.owner`: open, decide, commit, relay. Between any two of them the
world may crash the owner, or let another one take over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from jobledger.processors.core.leases import Leases
from jobledger.processors.core.machine import Incoming, Limits, Machine
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import FencedError
from jobledger.processors.core.recovery import check_tail, rebuild
from jobledger.schemas.commands import read_record
from jobledger.simulator.clock import HeartbeatTable, VirtualClock
from jobledger.simulator.log import MemoryLog, MemoryRetained, Network

#: How far before its checkpoint a fresh owner is fed, as after a seek to an old group offset.
REWIND_RECORDS = 2


@dataclass(frozen=True)
class OwnerSettings:
    """What every owner of a world shares."""

    cell: str
    partitions: int
    limits: Limits
    lease_seconds: float


class CommitFault(Enum):
    """What can become of a commit."""

    NONE = "none"
    LOST = "lost"  # the transaction never happened; the owner learns nothing
    UNKNOWN = "unknown"  # it happened; the owner learns nothing


class SimOwner:
    """One incarnation of an owner; after a crash another one is made. `name` tells its producer from others."""

    def __init__(
        self,
        name: str,
        partition: int,
        settings: OwnerSettings,
        log: MemoryLog,
        network: Network,
        clock: VirtualClock,
        heartbeats: HeartbeatTable,
    ) -> None:
        self.name = name
        self.partition = partition
        self._log = log
        self._network = network
        self._clock = clock
        self.plan: Plan | None = None
        self.alive = True
        self.epoch = log.open(partition)
        self._settings = settings
        records = log.partitions[partition]
        self.machine = self.rebuilt()
        check_tail(partition, self.machine.checkpoint, len(records.events))
        self._fetched = max(0, self.machine.checkpoint.offset - REWIND_RECORDS)
        self._incoming = Incoming(deque(), deque())
        self._leases = Leases(heartbeats, clock, settings.lease_seconds)
        self._unsent: list[tuple[bytes, OutboxEntry]] = list(self.machine.outbox.items())

    def rebuilt(self) -> Machine:
        """A machine from what is committed in `state`.

        Compaction and rewriting leave the keys in any order: a recovery must not depend on it.
        """
        kept, settings = self._log.partitions[self.partition].state, self._settings
        state = dict(reversed(kept.items())) if self.epoch % 2 else dict(kept)
        return rebuild(self.partition, settings.cell, settings.partitions, state, settings.limits, MemoryRetained())

    # -- the steps of a turn -------------------------------------------------------------------------------------

    def decide(self, *, single: bool = False, over_time: Callable[[], bool] = lambda: False) -> bool:
        """Decide what waits; False when there is nothing to commit."""
        if self.plan is not None:
            return True
        commands = self._log.partitions[self.partition].commands
        while self._fetched < len(commands):
            self._incoming.records.append((self._fetched, read_record(commands[self._fetched])))
            self._fetched += 1
        if not self._incoming.internal:
            self._incoming.internal.extend(self._leases.expired(self.machine.queues))
        plan = self.machine.decide(self._clock.now_ms(), self._incoming, single=single, over_time=over_time)
        self.plan = None if plan.empty else plan
        return self.plan is not None

    def commit(self, fault: CommitFault = CommitFault.NONE) -> bool:
        """Commit what was decided; False when the owner must be thrown away: fenced, or the outcome is unknown."""
        plan = self.plan
        if plan is None:
            return True
        self.plan = None
        try:
            if fault is not CommitFault.LOST:
                self._log.commit(self.partition, self.epoch, plan)
        except FencedError:
            self.alive = False
            return False
        if fault is not CommitFault.NONE:
            self.alive = False
            return False
        self.machine.committed(plan)
        self._unsent.extend((entry.key, entry) for entry in plan.outbox)
        return True

    @property
    def unsent(self) -> list[str]:
        """The destinations of what is committed and not yet sent, in order."""
        return [entry.destination for _, entry in self._unsent]

    def relay(self, limit: int | None = None, *, hold: bool = False, fail_at: int | None = None) -> None:
        """Send what is committed and unsent, in order, at most `limit` entries.

        `hold`: the network keeps them for now. `fail_at`: the delivery of that one fails; what was sent
        behind it arrives all the same, counts for nothing, and is sent again with it the next time.
        """
        # What has been acknowledged is not sent again; an acknowledgement too many would show as a lost record.
        self._unsent = [one for one in self._unsent if one[0] in self.machine.outbox]
        count = len(self._unsent) if limit is None else limit
        batch, self._unsent = self._unsent[:count], self._unsent[count:]
        failed: str | None = None
        again: list[tuple[bytes, OutboxEntry]] = []
        for place, (key, entry) in enumerate(batch):
            if place == fail_at:
                failed = entry.destination
                again.append((key, entry))
            elif entry.destination == failed:
                self._send(entry, self._unacknowledged(key), hold=hold)
                again.append((key, entry))
            else:
                self._send(entry, self._acknowledged(key), hold=hold)
        self._unsent[:0] = again

    def turn(self, *, single: bool = False) -> bool:
        """Decide, commit, relay, without any fault; False when nothing was to be done."""
        if not self.decide(single=single):
            self.relay()
            return False
        if self.commit():
            self.relay()
        return True

    # -- what the relay and the workers' heartbeats need ----------------------------------------------------------

    def _send(self, entry: OutboxEntry, arrived: Callable[[], None], *, hold: bool) -> None:
        self._network.send(self.name, entry.destination, entry.value, arrived, hold=hold)

    def _acknowledged(self, key: bytes) -> Callable[[], None]:
        return lambda: self.machine.acknowledge(key)

    def _unacknowledged(self, key: bytes) -> Callable[[], None]:
        """An arrival beyond a failed delivery is no acknowledgement: the receiver drops what is beyond a gap."""
        return lambda: None
