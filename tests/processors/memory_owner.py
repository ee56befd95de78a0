"""The product's owner and machine over ports in memory: a log with Kafka's bound on a record, a clock, heartbeats."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from jobledger.domain.identity import job_stream, partition_of
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import SYSTEM, Actor, ActorKind, Opaque
from jobledger.processors.core.machine import Incoming, Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import OutboxHolder, RefusedRecordError, TakeState
from jobledger.processors.core.recovery import rebuild
from jobledger.processors.core.retained import Retained
from jobledger.processors.kafka_log import RecoveredState
from jobledger.schemas.commands import Command, CommandRecord, encode_record, take_record
from jobledger.schemas.events import EventRecord
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.schemas.outcomes import Outcome, encode_outcome

USER = Actor(ActorKind.USER, "u")
WORKER = Actor(ActorKind.WORKER, "w1")
NOW = 1_800_000_000_000


def command(stream: str, body: Any, identity: str, actor: Actor = USER, *, reply: bool = True) -> Command:
    return Command(id=identity, stream=stream, actor=actor, body=body, reply=reply)


def submit(stream: str, *, payload: str = "{}", identity: str | None = None, **given: Any) -> Command:
    body = jc.SubmitJob(**{"handler": "work", "queue": "default", "payload": Opaque(payload)} | given)
    return command(stream, body, identity or stream)


def credits(queue: str, count: int, *, worker: str = "w1", incarnation: str = "i1") -> Command:
    body = qc.SetCredits(worker=worker, incarnation=incarnation, pool="d", credits=count, handlers=["work"])
    return command(queue, body, f"credits/{incarnation}", WORKER, reply=False)


def expire(queue: str, *, worker: str = "w1", incarnation: str = "i1") -> Command:
    body = qc.ExpireLease(worker=worker, incarnation=incarnation)
    return command(queue, body, f"lease/{incarnation}", SYSTEM, reply=False)


def job(name: str) -> str:
    """The stream of a job whose id is a UUIDv7 of now, the same for the same name."""
    digest = hashlib.blake2b(name.encode(), digest_size=10).hexdigest()
    return job_stream("default", str(UUID(f"{NOW:012x}7{digest[:3]}8{digest[3:18]}")))


def jobs_on(partition: int, partitions: int, count: int, prefix: str = "j") -> list[str]:
    """Streams of jobs that live on a partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        stream = job(f"{prefix}{number}")
        number += 1
        if partition_of(stream, partitions) == partition:
            found.append(stream)
    return found


def check_sizes(plan: Plan) -> None:
    """What the broker does not take; raises RefusedRecordError, as the Kafka client's MSG_SIZE_TOO_LARGE."""
    sizes = [len(e.key) + len(e.value) + sum(len(k) + len(v or b"") for k, v in e.headers) for e in plan.events]
    sizes += [len(key) + len(value or b"") for key, value in plan.state.items()]
    sizes += [len(o.command_id.encode()) + len(encode_outcome(o)) for o in plan.outcomes]
    sizes += [len(entry.value) for entry in plan.outbox]
    for size in sizes:
        if size > MAX_MESSAGE_BYTES:
            raise RefusedRecordError(f"a record of {size} bytes: message size too large")


class Decider:
    """A machine, what it has written, and commands for it by the record; commits every plan."""

    def __init__(
        self,
        partition: int = 0,
        partitions: int = 1,
        limits: Limits | None = None,
        state: dict[bytes, bytes] | None = None,
    ) -> None:
        self.partition, self.partitions = partition, partitions
        self.limits = limits or Limits()
        self.state: dict[bytes, bytes] = state or {}
        self.machine = self.rebuilt()
        self.records: list[EventRecord] = []
        self.outcomes: list[Outcome] = []
        self.outbox: list[OutboxEntry] = []
        self.batches: list[Plan] = []
        self.incoming = Incoming(deque(), deque())
        self.offset = self.machine.checkpoint.offset

    def rebuilt(self) -> Machine:
        """A machine from what is committed."""
        return rebuild(self.partition, "c", self.partitions, dict(self.state), self.limits, Retained())

    def feed(self, *commands: Command, **given: Any) -> None:
        """A record of commands, as the broker has it."""
        self.raw(encode_record(CommandRecord(commands=list(commands), **given)))

    def raw(self, value: bytes) -> None:
        self.incoming.records.append((self.offset, take_record(value)))
        self.offset += 1

    def turn(self, now: int = NOW, over_time: Callable[[], bool] = lambda: False, **given: Any) -> Plan:
        """One batch, committed."""
        plan = self.machine.decide(now, self.incoming, **{"single": False, "over_time": over_time} | given)
        check_sizes(plan)
        for key, value in plan.state.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.machine.committed(plan)
        self.records += plan.records
        self.outcomes += plan.outcomes
        self.outbox += plan.outbox
        self.batches.append(plan)
        return plan

    def settle(self, now: int = NOW, **given: Any) -> None:
        """Batches until nothing is left to do."""
        self.turn(now, **given)
        while self.incoming.records or self.incoming.internal or self.machine.unfinished:
            self.turn(now, **given)


class MemoryLog:
    """`PartitionLog` in memory. `before_commit` may wait, or raise in the place of the broker."""

    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}
        self.commands: list[bytes] = []
        self.records: list[EventRecord] = []
        self.outcomes: dict[str, Outcome] = {}
        self.plans: list[Plan] = []
        self.opened = 0
        self.commits = 0
        self.before_commit: Callable[[Plan], Awaitable[None]] | None = None

    async def open(self, take: TakeState) -> RecoveredState:
        self.opened += 1
        take(self.state.items())
        return RecoveredState(len(self.records), len(self.commands))

    async def commit(self, plan: Plan) -> None:
        self.commits += 1
        await asyncio.sleep(0)  # as one in Kafka is not part of the turn that decides
        if self.before_commit is not None:
            await self.before_commit(plan)
        check_sizes(plan)
        for key, value in plan.state.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.records += plan.records
        self.outcomes.update((outcome.command_id, outcome) for outcome in plan.outcomes)
        self.plans.append(plan)

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        end = min(len(self.commands), offset + limit)
        return [(at, self.commands[at]) for at in range(offset, end)]

    async def close(self) -> None:
        pass


class Unsent:
    """`Relay` that sends nothing; `holder` is the owner that has registered."""

    def __init__(self) -> None:
        self.holder: OutboxHolder | None = None

    def register(self, holder: OutboxHolder) -> None:
        self.holder = holder

    def unregister(self, holder: OutboxHolder) -> None:
        self.holder = None

    def send(self, holder: OutboxHolder, entries: list[tuple[bytes, OutboxEntry]]) -> None:
        pass


class Beats:
    """`Heartbeats`: everybody is heard of while `alive`."""

    alive = True

    @property
    def seen_until(self) -> float:
        return time.monotonic()

    def heard_at(self, incarnation: str) -> float:
        return time.monotonic() if self.alive else 0.0


class FixedClock:
    """`Clock` whose wall time stands still."""

    now = NOW

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return time.monotonic()


class Noting:
    """`Observer` that notes what owners do: (what, arguments after the partition)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda partition, *rest: self.seen.append((name, rest))

    def all(self, name: str) -> list[tuple[Any, ...]]:
        return [rest for what, rest in self.seen if what == name]


class MemoryOwner:
    """One owner over ports in memory."""

    def __init__(self, partition: int = 0, partitions: int = 1, limits: Limits | None = None, **given: Any) -> None:
        self.log = given.pop("log", None) or MemoryLog()
        self.relay = given.pop("relay", None) or Unsent()
        self.beats, self.clock, self.observer = Beats(), FixedClock(), Noting()
        config = OwnerConfig(
            cell="c",
            partitions=partitions,
            limits=limits or Limits(),
            lease_seconds=given.pop("lease_seconds", 60.0),
            confirm_seconds=0.05,
            **given,
        )
        self.owner = Owner(
            partition, config, self.log, self.relay, self.beats, self.clock, self.observer, asyncio.Semaphore(8)
        )

    async def __aenter__(self) -> MemoryOwner:
        await self.owner.start()
        await self.owner.settled.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.owner.stop(), 10)

    @property
    def machine(self) -> Machine:
        machine = self.owner._machine
        assert machine is not None
        return machine

    def feed(self, *commands: Command, **given: Any) -> None:
        """A record on `commands`, told to the owner by its feed."""
        self.raw(encode_record(CommandRecord(commands=list(commands), **given)))

    def raw(self, value: bytes) -> None:
        self.log.commands.append(value)
        self.owner.offer(len(self.log.commands) - 1, value)

    async def outcome(self, identity: str) -> Outcome:
        """What became of a command."""
        await wait_for(lambda: identity in self.log.outcomes)
        return self.log.outcomes[identity]


async def wait_for(done: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - what is waited for happens in the product, which tells nobody
            await asyncio.sleep(0.005)
