"""The product's own owner over a log in memory: for tests that need no broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from log_cell import Alive, Quiet, until

from jobledger.domain.identity import job_stream, partition_of
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import OutboxHolder, Recovered, TakeState
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.schemas.commands import CommandRecord, encode_record
from jobledger.schemas.events import EventRecord
from jobledger.schemas.outcomes import Outcome
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.ports import MemoryPartitionLog

CELL = "c"


class PartitionInMemory(MemoryPartitionLog):
    """The simulator's log of a partition; counts how often it was opened."""

    opened = 0

    async def open(self, take: TakeState) -> Recovered:
        self.opened += 1
        return await super().open(take)


class NoRelay:
    """What leaves the partition is not looked at."""

    def register(self, holder: OutboxHolder) -> None:
        pass

    def unregister(self, holder: OutboxHolder) -> None:
        pass

    def send(self, holder: OutboxHolder, entries: list[tuple[bytes, OutboxEntry]]) -> None:
        pass


@dataclass
class OwnerInMemory:
    """An owner of the only partition of a cell, with a clock that can be moved and a broker that knows the time."""

    max_skew_ms: int = 500
    make_retained: Callable[[], Retained] = Retained
    log: MemoryBroker = field(default_factory=lambda: MemoryBroker(1))
    wall: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.events: list[EventRecord] = []
        self.outcomes: dict[str, Outcome] = {}
        self.log.listeners.append(self._committed)
        self.observer = Quiet()
        self.clock = WatchedClock(self.wall, self.max_skew_ms)
        self.partition = PartitionInMemory(self.log, 0)
        self._jobs = 0
        config = OwnerConfig(
            cell=CELL,
            partitions=1,
            limits=Limits(),
            lease_seconds=60,
            confirm_seconds=0.1,
            make_retained=self.make_retained,
        )
        self.owner = Owner(
            0, config, self.partition, NoRelay(), Alive(), self.clock, self.observer, asyncio.Semaphore(1)
        )

    def _committed(self, partition: int, plan: Plan) -> None:
        self.events += plan.records
        self.outcomes.update((outcome.command_id, outcome) for outcome in plan.outcomes)

    @property
    def machine(self) -> Machine:
        machine = self.owner.machine
        assert machine is not None, "the partition is not served"
        return machine

    def probe(self) -> None:
        """What the heartbeat book does twice a second; the broker's clock is right."""
        now = self.clock.monotonic()
        self.clock.measured(now, now, time.time_ns() // 1_000_000)

    async def start(self) -> None:
        self.probe()
        await self.owner.start()
        await asyncio.wait_for(self.owner.settled.wait(), 10)

    async def stop(self) -> None:
        await self.owner.stop()

    def send(self, *commands: Any) -> None:
        """A record of commands, as the feed gives it."""
        commands_log = self.log.partitions[0].commands
        value = encode_record(CommandRecord(commands=list(commands)))
        commands_log.append(value)
        self.owner.offer(len(commands_log) - 1, value)

    async def decided(self, command_id: str, seconds: float = 10) -> Outcome:
        await until(lambda: command_id in self.outcomes, seconds)
        return self.outcomes[command_id]

    async def served(self, seconds: float = 10) -> None:
        await until(lambda: self.owner.serving, seconds)


def new_job(identity: str) -> str:
    stream = job_stream("default", identity)
    assert partition_of(stream, 1) == 0
    return stream
