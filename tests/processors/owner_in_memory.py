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
from jobledger.processors.core.machine import Limits, Machine
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import OutboxHolder, TakeState
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.processors.kafka_log import RecoveredState
from jobledger.schemas.commands import CommandRecord, encode_record
from jobledger.schemas.events import EventRecord
from jobledger.schemas.outcomes import Outcome
from jobledger.simulator.log import MemoryLog

CELL = "c"


class PartitionInMemory:
    """`PartitionLog` on one partition of a log in memory."""

    def __init__(self, log: MemoryLog, partition: int = 0) -> None:
        self._log = log
        self._partition = partition
        self._epoch = 0
        self.opened = 0

    async def open(self, take: TakeState) -> RecoveredState:
        self.opened += 1
        self._epoch = self._log.open(self._partition)
        records = self._log.partitions[self._partition]
        take(records.state.items())
        return RecoveredState(len(records.events), len(records.commands))

    async def commit(self, plan: Plan) -> None:
        self._log.commit(self._partition, self._epoch, plan)

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        commands = self._log.partitions[self._partition].commands[offset : offset + limit]
        return list(enumerate(commands, offset))

    async def close(self) -> None:
        pass


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
    log: MemoryLog = field(default_factory=lambda: MemoryLog(1))
    wall: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.events: list[EventRecord] = []
        self.outcomes: dict[str, Outcome] = {}
        self.log.listeners.append(self._committed)
        self.observer = Quiet()
        self.clock = WatchedClock(self.wall, self.max_skew_ms)
        self.partition = PartitionInMemory(self.log)
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
