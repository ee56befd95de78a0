"""A scheduler process of the simulated world: the product's owners and relay in a loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.relay import OutboxRelay
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.clock import HeartbeatTable, ProcessClock, VirtualClock
from jobledger.simulator.loop import TurningOnTheSpotError, VirtualLoop
from jobledger.simulator.network import Network
from jobledger.simulator.ports import Disk, FaultyRetained, MemoryPartitionLog, MemoryTransport

#: How far before its checkpoint a fresh owner is fed, as after a seek to an old group offset.
REWIND_RECORDS = 2
MAX_COMMITS_IN_FLIGHT = 8
#: Turns of an owner's loop at one moment without any commit: more of them would never end.
MAX_IDLE_TURNS = 200


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What all schedulers of a world share."""

    name: str
    partitions: int
    limits: Limits
    lease_seconds: float
    max_clock_skew_ms: int
    broker: MemoryBroker
    network: Network
    clock: VirtualClock
    heartbeats: HeartbeatTable
    #: Outbox records that a producer takes at once.
    relay_capacity: int = 0


class Witness(Protocol):
    """Hears what owners do."""

    def opened(self, process: SimScheduler, partition: int) -> None:
        """A partition is served."""

    def reopened(self, process: SimScheduler, partition: int, reason: str, error: str) -> None:
        """An owner forgets its memory and starts over."""

    def refused(self, process: SimScheduler, partition: int, error: str) -> None:
        """A partition stays closed until somebody repairs it."""

    def decided(self, process: SimScheduler, partition: int, plan: Plan) -> None:
        """The owner knows that a transaction is committed."""


class SimObserver:
    """`Observer` that tells the world, and ends a loop that turns without doing anything."""

    def __init__(self, process: SimScheduler, witness: Witness) -> None:
        self._process = process
        self._witness = witness
        self.idle_turns: dict[int, int] = {}

    def opened(self, partition: int, seconds: float, live_jobs: int) -> None:
        """See Observer."""
        self._witness.opened(self._process, partition)

    def closed(self, partition: int, reason: str) -> None:
        """See Observer."""

    def reopened(self, partition: int, reason: str, error: str) -> None:
        """See Observer."""
        self._witness.reopened(self._process, partition, reason, error)

    def refused(self, partition: int, error: str) -> None:
        """See Observer."""
        self._witness.refused(self._process, partition, error)

    def turned(self, partition: int, collect_seconds: float) -> None:
        """See Observer."""
        turns = self.idle_turns[partition] = self.idle_turns.get(partition, 0) + 1
        if turns > MAX_IDLE_TURNS:
            raise TurningOnTheSpotError(f"partition {partition}: its owner turns without a pause and does nothing")

    def gaps(self, partition: int, overdue: Mapping[int, tuple[int, int]]) -> None:
        """See Observer; the world asks the owner itself."""

    def committed(self, partition: int, plan: Plan, seconds: float) -> None:
        """See Observer."""
        self.idle_turns.clear()
        self._witness.decided(self._process, partition, plan)


class Feed:
    """Offers an owner the records of its partition in order; `skip` of the next ones are left out."""

    def __init__(self, broker: MemoryBroker, partition: int) -> None:
        self._records = broker.partitions[partition]
        self.position = max(self._records.commands_begin, self._records.group_offset - REWIND_RECORDS)
        self.skip = 0
        self.stalled = False

    def pump(self, owner: Owner) -> bool:
        """Offer what is new; whether there was anything."""
        commands = self._records.commands
        if self.stalled or self.position >= len(commands):
            return False
        while self.position < len(commands):
            offset, value = self.position, commands[self.position]
            self.position += 1
            if value is not None and self.skip > 0 and self.position < len(commands):
                self.skip -= 1
            elif value is not None:
                owner.offer(offset, value)
        return True

    def seek(self, offset: int) -> None:
        """Go on from there, as after a rebalance."""
        self.position, self.skip, self.stalled = offset, 0, False


@dataclass
class Seat:
    """An owner in a process, with its port to the log and its feed."""

    owner: Owner
    log: MemoryPartitionLog
    feed: Feed


class SimScheduler:
    """One process. It is killed as a whole; while `paused` (SIGSTOP) it takes no step."""

    def __init__(self, name: str, cell: Cell, witness: Witness) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.clock = ProcessClock(cell.clock)
        self._watched = WatchedClock(self.clock, cell.max_clock_skew_ms)
        self.disk = Disk()
        # What a loop can do for sockets and processes stays undone, as in asyncio's own base class.
        self.loop = VirtualLoop(cell.clock.monotonic)  # type: ignore[abstract]
        self.seats: dict[int, Seat] = {}
        self.transports: list[MemoryTransport] = []
        self.resent = 0
        self._cell = cell
        self._observer = SimObserver(self, witness)
        self._slots = asyncio.Semaphore(MAX_COMMITS_IN_FLIGHT)
        self._relay = OutboxRelay(self._make_transport, self._count_resent)
        self._config = OwnerConfig(
            cell=cell.name,
            partitions=cell.partitions,
            limits=cell.limits,
            lease_seconds=cell.lease_seconds,
            make_retained=lambda: FaultyRetained(self.disk),
        )
        self._probe()  # a scheduler owns nothing before its first probe has come back
        self._do(self._relay.start)

    def _make_transport(self) -> MemoryTransport:
        cell = self._cell
        name = f"{self.name}/relay{len(self.transports) + 1}"
        transport = MemoryTransport(name, cell.network, cell.broker, cell.relay_capacity)
        self.transports.append(transport)
        return transport

    def _count_resent(self, error: str) -> None:
        self.resent += 1

    @property
    def transport(self) -> MemoryTransport:
        """The relay's present one."""
        return self.transports[-1]

    @property
    def running(self) -> bool:
        """Alive, and not stopped by a signal."""
        return self.alive and not self.paused

    def own(self, partition: int) -> Seat:
        """The group gives this process a partition: its owner begins to open it with the next `run`."""
        cell = self._cell
        log = MemoryPartitionLog(cell.broker, partition)
        owner = Owner(
            partition, self._config, log, self._relay, cell.heartbeats, self._watched, self._observer, self._slots
        )
        seat = self.seats[partition] = Seat(owner, log, Feed(cell.broker, partition))
        self._do(owner.start)
        self._do(owner.wait)
        return seat

    def _do(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call that with the next step; what it raises ends the run."""
        self.loop.call_soon(lambda: self.loop.create_task(call()).add_done_callback(_raise))

    def release(self, partition: int) -> None:
        """The group takes a partition away: its owner ends after the transaction under way."""
        seat = self.seats.pop(partition)
        seat.log.release()
        self._do(seat.owner.stop)

    def run(self) -> bool:
        """Step until nothing can be done at this moment; whether anything was."""
        if not self.running:
            return False
        self._observer.idle_turns.clear()
        if not self._cell.heartbeats.stalled:
            self._probe()
        steps = 0
        while True:
            fed = [seat.feed.pump(seat.owner) for seat in list(self.seats.values())]
            taken = self.loop.run()
            steps += taken
            if not taken and not any(fed):
                return steps > 0

    def _probe(self) -> None:
        """A probe among the heartbeats comes back with the broker's time."""
        sent_at = self.clock.monotonic()
        self._watched.measured(sent_at, self.clock.monotonic(), self._cell.clock.now_ms())

    def kill(self, choice: int = 0) -> None:
        """kill -9: memory and plans are gone; of what the relay had sent some has left, the rest never will."""
        self.alive = False
        for transport in self.transports:
            self._cell.network.lose(transport.name, choice)
        for seat in self.seats.values():
            seat.log.epoch = -1
        self.loop.kill()


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.result()
