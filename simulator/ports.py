"""The ports of an owner and of a relay in memory, with the faults that a world can put into each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from jobledger.processors.core.machine import LostCommandError
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import TakeState
from jobledger.processors.core.relay import TransportError
from jobledger.processors.core.retained import Retained
from jobledger.schemas.commands import NO_COMMANDS
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.network import Network

FLUSH_SECONDS = 5.0
#: Records of `state` that an opening hands over at once.
STATE_PIECE = 50


class LogFaultError(RuntimeError):
    """A call of the log has failed; what became of it is unknown."""


class CommitFault(Enum):
    """What can become of a commit."""

    NONE = "none"
    LOST = "lost"  # the transaction never happened; the owner learns nothing
    UNKNOWN = "unknown"  # it happened; the owner learns nothing


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an opening finds; see `processors.core.ports.Recovered`."""

    last_event_seq: int
    commands_end: int


class MemoryPartitionLog:
    """`PartitionLog` in memory, for one owner.

    While `held`, a commit waits until `release`; `fault` is what becomes of the next one. `broken_calls` of
    the next openings and readings fail.
    """

    def __init__(self, broker: MemoryBroker, partition: int) -> None:
        self._broker = broker
        self._partition = partition
        self.epoch = 0
        self.held = False
        self.fault = CommitFault.NONE
        self.broken_calls = 0
        #: The plan whose commit is under way.
        self.plan: Plan | None = None
        self._released: asyncio.Future[None] | None = None

    async def open(self, take: TakeState) -> Recovered:
        """See PartitionLog; the state comes in pieces.

        Compaction and rewriting leave the keys in any order: a recovery must not depend on it.
        """
        await self._call("open")
        self.epoch = self._broker.open(self._partition)
        records = self._broker.partitions[self._partition]
        state: list[tuple[bytes, bytes | None]] = list(records.state.items())
        if self.epoch % 2:
            state.reverse()
        for start in range(0, len(state), STATE_PIECE):
            await asyncio.sleep(0)
            take(state[start : start + STATE_PIECE])
        return Recovered(len(records.events), len(records.commands))

    async def _call(self, name: str) -> None:
        await asyncio.sleep(0)
        if self.broken_calls > 0:
            self.broken_calls -= 1
            raise LogFaultError(f"{name}: the broker is away")

    async def commit(self, plan: Plan) -> None:
        """See PartitionLog; each commit takes a step at least, and as long as the world likes."""
        self._broker.check_sizes(plan)
        self.plan = plan
        try:
            await asyncio.sleep(0)
            while self.held:
                self._released = asyncio.get_running_loop().create_future()
                await self._released
            fault, self.fault = self.fault, CommitFault.NONE
            if fault is CommitFault.LOST:
                raise LogFaultError("commit: timed out")
            self._broker.commit(self._partition, self.epoch, plan)
            if fault is CommitFault.UNKNOWN:
                raise LogFaultError("commit: timed out")
        finally:
            self.plan = None

    def release(self, fault: CommitFault = CommitFault.NONE) -> None:
        """The commit that waits, and those that follow, go through; `fault` strikes the first of them."""
        self.held = False
        if self.plan is not None:
            self.fault = fault
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """See PartitionLog."""
        await self._call("commands_from")
        records = self._broker.partitions[self._partition]
        if offset < records.commands_begin == len(records.commands):
            raise LostCommandError(f"command records {offset} to {records.commands_begin - 1} are not in the log")
        start = max(offset, records.commands_begin)  # whoever decides them sees that some are missing
        return [
            (start + place, NO_COMMANDS if value is None else value)
            for place, value in enumerate(records.commands[start : start + limit])
        ]

    async def close(self) -> None:
        """See PartitionLog."""
        await asyncio.sleep(0)


class MemoryTransport:
    """`Transport` over the network of the world. `capacity` records may be under way; 0: any number."""

    def __init__(self, name: str, network: Network, broker: MemoryBroker, capacity: int = 0) -> None:
        self.name = name
        self._network = network
        self._broker = broker
        self._capacity = capacity
        self._under_way: dict[asyncio.Future[None], None] = {}

    async def start(self) -> None:
        """See Transport."""

    async def stop(self) -> None:
        """See Transport; what is still under way after the flush may arrive later, or never."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=FLUSH_SECONDS)

    def send(self, entry: OutboxEntry) -> asyncio.Future[None]:
        """See Transport."""
        if not self._broker.takes(len(entry.value)):
            raise TransportError(f"MSG_SIZE_TOO_LARGE: {len(entry.value)} bytes for {entry.destination}")
        if self._capacity and len(self._under_way) >= self._capacity:
            raise TransportError("Queue full")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way[future] = None
        self._network.send(self.name, entry.destination, entry.value, self._settle(future))
        return future

    def _settle(self, future: asyncio.Future[None]) -> Callable[[BaseException | None], None]:
        def settle(error: BaseException | None) -> None:
            self._under_way.pop(future, None)
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        return settle


@dataclass
class Disk:
    """The disk of a process: full, or so damaged that caches which are open can't be read any more."""

    full: bool = False
    damaged: int = 0


class FaultyRetained(Retained):
    """The scheduler's cache of stubs, in memory, on a disk that may fail."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(":memory:")
        self._disk = disk
        self._made_at = disk.damaged

    @property
    def damaged(self) -> bool:
        """Whether nothing can be read from it any more."""
        return self._disk.damaged != self._made_at

    def _check(self) -> None:
        if self.damaged:
            raise sqlite3.DatabaseError("database disk image is malformed")

    def get(self, key: bytes) -> bytes | None:
        """See Retained."""
        self._check()
        return super().get(key)

    def put_many(self, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        """See Retained."""
        self._check()
        if self._disk.full:
            raise sqlite3.OperationalError("database or disk is full")
        super().put_many(rows)

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """See Retained."""
        self._check()
        return super().expired(now_ms, limit)
