"""The simulated world: schedulers with their owners, workers, users, a broker, a network and a clock.

Nothing happens by itself: each method is one step, and the caller decides the order. `drain()` takes steps
until nothing is left to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import job_stream, key_stream, partition_of, queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import TERMINAL, Job, JobStatus
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import Actor, ActorKind, Lineage, Opaque, RetryPolicy
from jobledger.domain.worker_messages import RunTask
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.recovery import rebuild
from jobledger.processors.core.retained import Retained
from jobledger.schemas.commands import Command, CommandRecord, encode_record, read_record
from jobledger.schemas.events import EventRecord
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.simulator.agreement import check_fold, check_rebuild
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.checks import History, ViolationError, check_chain, insist
from jobledger.simulator.clock import START_MS, HeartbeatTable, VirtualClock
from jobledger.simulator.loop import TurningOnTheSpotError
from jobledger.simulator.network import Network
from jobledger.simulator.outcomes import Answers, check_set_aside
from jobledger.simulator.ports import CommitFault, FaultyRetained
from jobledger.simulator.scheduler import Cell, Seat, SimScheduler
from jobledger.simulator.worker import SimWorker

USER = Actor(ActorKind.USER, "somebody")
#: Rounds without any progress after which the world counts as stuck.
MAX_IDLE_ROUNDS = 4
MAX_DRAIN_ROUNDS = 2_000
#: Batches in a row that may leave a due timer alone: after a failure commands are decided one by one for a while.
MAX_BATCHES_BEFORE_TIMERS = 12
#: A gap in the numbers of an outbox has to be told of when it is this old.
GAP_MS = 35_000
DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    """How big the world is, and the bounds of its owners.

    `max_message_bytes` is the largest record that the broker takes, `relay_capacity` how many outbox records a
    scheduler may have under way (0: any number).
    """

    partitions: int = 3
    cell: str = "sim"
    tenant: str = "default"
    queues: tuple[str, ...] = ("default", "other")
    handlers: tuple[str, ...] = ("work", "report")
    limits: Limits = field(default_factory=lambda: Limits(dedup_window_ms=DAY_MS))
    lease_seconds: float = 10.0
    max_clock_skew_ms: int = 500
    start_ms: int = START_MS
    max_message_bytes: int = MAX_MESSAGE_BYTES
    relay_capacity: int = 0


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a user submits. `key` is the digest of an idempotency key, `request` that of the whole request."""

    handler: str = "work"
    queue: str = "default"
    payload: str = "{}"
    priority: int = 3
    delay_ms: int = 0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    key: str | None = None
    request: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


class World:
    """See the module. Every committed transaction is checked at once; a breach raises ViolationError."""

    def __init__(self, options: WorldOptions | None = None) -> None:
        self.options = options or WorldOptions()
        self.clock = VirtualClock(self.options.start_ms)
        self.heartbeats = HeartbeatTable(self.clock)
        self.log = MemoryBroker(self.options.partitions, self.options.max_message_bytes)
        self.log.listeners.append(self._committed)
        self.network = Network(self.log)
        self.history = History(self.options.partitions, self.options.limits.dedup_window_ms)
        self.answers = Answers(self.history)
        self.records: list[EventRecord] = []
        self.workers: list[SimWorker] = []
        #: Schedulers that are alive, oldest first.
        self.schedulers: list[SimScheduler] = []
        #: Which scheduler the group has given each partition to.
        self.placed: list[SimScheduler | None] = [None] * self.options.partitions
        #: Deposed owners that still believe in themselves.
        self.zombies: list[tuple[SimScheduler, int]] = []
        self.refusals: dict[int, str] = {}
        self.reopenings: list[tuple[int, str, str]] = []
        #: Jobs on which a lying worker claimed an assignment that was never its own: others may start them in vain.
        self.forged: set[str] = set()
        self._starved: dict[int, int] = {}
        self._violation: ViolationError | None = None
        self._counts = {"job": 0, "command": 0, "worker": 0, "scheduler": 0, "report": 0}
        self._request_ids: list[str] = []
        self._cell = Cell(
            name=self.options.cell,
            partitions=self.options.partitions,
            limits=self.options.limits,
            lease_seconds=self.options.lease_seconds,
            max_clock_skew_ms=self.options.max_clock_skew_ms,
            broker=self.log,
            network=self.network,
            clock=self.clock,
            heartbeats=self.heartbeats,
            relay_capacity=self.options.relay_capacity,
        )
        first = self.start_scheduler()
        for partition in range(self.options.partitions):
            self.place(partition, first)
        self.run()

    def _next(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]

    def _committed(self, partition: int, plan: Plan) -> None:
        latest_ms = self.clock.now_ms() + self.options.max_clock_skew_ms
        with self._watching():
            for out in plan.events:
                self.records.append(self.history.apply(partition, out, latest_ms))
            for outcome in plan.outcomes:
                self.answers.take(outcome)
            check_chain(plan.records, self.options.limits.chain_depth)

    @contextlib.contextmanager
    def _watching(self) -> Generator[None, None, None]:
        """A breach that is seen in the midst of an owner's doing ends the step: the owner must not swallow it."""
        try:
            yield
        except ViolationError as error:
            self._violation = self._violation or error

    # -- users ---------------------------------------------------------------------------------------------------

    @property
    def command_ids(self) -> Sequence[str]:
        """Ids of the users' commands so far, oldest first."""
        return self._request_ids

    def new_job(self, key: str | None = None, on: int | None = None) -> str:
        """A stream id for a job, on the partition of its idempotency key when it has one."""
        home = on if key is None else partition_of(key_stream(self.options.tenant, key), self.options.partitions)
        while True:
            stream = job_stream(self.options.tenant, self._new_id("job"))
            if home is None or partition_of(stream, self.options.partitions) == home:
                return stream

    def _new_id(self, what: str) -> str:
        """A UUIDv7 of this moment."""
        at = f"{self.clock.now_ms():012x}"
        return f"{at[:8]}-{at[8:]}-7000-8000-{self._next(what):012x}"

    def submit(self, job: NewJob | str = "work", *, hold: bool = False, on: int | None = None) -> str:
        """A user submits a job (or one with a handler of that name); returns its stream id.

        `on` names the partition it shall live on. With an idempotency key that was used before, no job of
        that id comes to be.
        """
        new = NewJob(handler=job) if isinstance(job, str) else job
        body = jc.SubmitJob(
            handler=new.handler,
            queue=new.queue,
            payload=Opaque(new.payload),
            priority=new.priority,
            due_at_ms=self.clock.now_ms() + new.delay_ms if new.delay_ms else None,
            retry=new.retry,
            timeout_seconds=new.timeout_seconds,
            lineage=Lineage(tags=new.tags),
            key_digest=new.key,
            request_digest=new.request,
        )
        stream = self.new_job(new.key, on)
        self.ask(stream, body, hold=hold)
        return stream

    def cancel(self, stream: str, reason: str | None = None, *, hold: bool = False) -> str:
        """A user cancels a job; returns the command id."""
        return self.ask(stream, jc.CancelJob(reason=Opaque(reason) if reason else None), hold=hold)

    def ask(self, stream: str, body: AnyCommand, *, hold: bool = False) -> str:
        """A user's command with a new id, which is returned."""
        identity = f"u{self._next('command'):06x}"
        command = Command(id=identity, stream=stream, actor=USER, body=body, reply=True)
        self._request_ids.append(identity)
        self._send_user(command, hold)
        return identity

    def ask_again(self, command_id: str, *, hold: bool = False) -> None:
        """The same command with the same id, as after a time-out."""
        self._send_user(self.answers.sent[command_id], hold)

    def _send_user(self, command: Command, hold: bool) -> None:
        self.answers.expect(command)
        self._send("api", command, hold)

    def _send(self, producer: str, command: Command, hold: bool) -> None:
        destination = f"c{partition_of(command.stream, self.options.partitions)}"
        self.network.send(producer, destination, encode_record(CommandRecord(commands=[command])), hold=hold)

    def foreign(self, partition: int, value: bytes | None) -> None:
        """Somebody who is no part of the system writes to `commands`; None: the mark of a transaction."""
        records = self.log.partitions[partition]
        records.foreign.add(len(records.commands))
        records.commands.append(value)

    # -- schedulers ----------------------------------------------------------------------------------------------

    def start_scheduler(self) -> SimScheduler:
        """One more process; it owns nothing yet."""
        scheduler = SimScheduler(f"s{self._next('scheduler')}", self._cell, self)
        self.schedulers.append(scheduler)
        return scheduler

    def place(self, partition: int, scheduler: SimScheduler) -> Seat:
        """The group gives a partition to a process, which opens it with its next step."""
        self.placed[partition] = scheduler
        return scheduler.own(partition)

    def seat(self, partition: int) -> Seat:
        """Who owns a partition; somebody takes over when there is none."""
        scheduler = self.placed[partition]
        if scheduler is None:
            spare = next((one for one in reversed(self.schedulers) if one.running and partition not in one.seats), None)
            seat = self.place(partition, spare or self.start_scheduler())
            self.run(partition)
            return seat
        return scheduler.seats[partition]

    def scheduler(self, partition: int) -> SimScheduler:
        """The process that owns a partition."""
        self.seat(partition)
        scheduler = self.placed[partition]
        assert scheduler is not None
        return scheduler

    def owner(self, partition: int) -> Owner:
        """The owner of a partition."""
        return self.seat(partition).owner

    def machine(self, partition: int) -> Machine | None:
        """The memory of a partition; None while it is not served."""
        return self.owner(partition).machine

    def run(self, partition: int | None = None) -> None:
        """Every scheduler (or that of one partition) does what it can do at this moment; raises ViolationError."""
        for scheduler in list(self.schedulers) if partition is None else [self.scheduler(partition)]:
            self._run(scheduler)

    def _run(self, scheduler: SimScheduler) -> None:
        try:
            scheduler.run()
        except TurningOnTheSpotError as error:
            self._violation = ViolationError(str(error))
        if self._violation is not None:
            self.close()
            raise self._violation

    def close(self) -> None:
        """End every process; nothing can be done with the world any more but to look at it."""
        for scheduler in list(self.schedulers):
            self.kill(scheduler)

    def turn(self, partition: int) -> bool:
        """The owner of a partition does all it can do at this moment; False when nothing was committed."""
        self.seat(partition)
        before = self.log.partitions[partition].changes
        self.run(partition)
        return self.log.partitions[partition].changes > before

    def decide(self, partition: int) -> bool:
        """The owner of a partition decides, and its commit waits for `commit`; False: there was nothing to decide."""
        seat = self.seat(partition)
        seat.log.held = True
        self.run(partition)
        return seat.log.plan is not None

    def commit(self, partition: int, fault: CommitFault = CommitFault.NONE) -> None:
        """The commit that waits goes through, or not; then the owner goes on."""
        self.seat(partition).log.release(fault)
        self.run(partition)

    def crash(self, partition: int, choice: int = 0) -> None:
        """kill -9 of the scheduler that owns a partition; what it had sent may still arrive."""
        scheduler = self.placed[partition]
        if scheduler is not None:
            self.kill(scheduler, choice)

    def kill(self, scheduler: SimScheduler, choice: int = 0) -> None:
        """kill -9 of a scheduler: the group will place its partitions elsewhere."""
        scheduler.kill(choice)
        self.schedulers.remove(scheduler)
        self.placed = [None if one is scheduler else one for one in self.placed]
        self.zombies = [zombie for zombie in self.zombies if zombie[0] is not scheduler]

    def take_over(self, partition: int) -> None:
        """Another process opens the partition while the owner of before still believes in itself."""
        old = self.placed[partition]
        if old is not None:
            self.zombies.append((old, partition))
        self.place(partition, self.start_scheduler())
        self.run(partition)

    def hand_over(self, partition: int) -> None:
        """The group takes a partition away in good order; another process opens it."""
        old = self.scheduler(partition)
        old.release(partition)
        self._run(old)
        self.place(partition, self.start_scheduler())
        self.run(partition)

    def zombie_commits(self, choice: int) -> None:
        """A deposed owner goes on where it was stopped, then learns of it: it must not get anything into the log."""
        scheduler, partition = self.zombies.pop(choice % len(self.zombies))
        seat, records = scheduler.seats[partition], self.log.partitions[partition]
        deposed, before = seat.log.epoch < records.epoch, records.transactions
        seat.log.release()
        scheduler.loop.call_soon(scheduler.release, partition)
        self._run(scheduler)
        insist(not deposed or before == records.transactions, f"partition {partition}: a deposed owner committed")
        self.run()

    def retire(self) -> None:
        """Deposed owners learn that they are, and processes that own nothing end."""
        for scheduler, partition in self.zombies:
            scheduler.release(partition)
        self.zombies.clear()
        self.run()
        for scheduler in [one for one in self.schedulers if one not in self.placed]:
            if not self.network.flying(scheduler.transport.name):
                self.kill(scheduler)

    # -- Witness -------------------------------------------------------------------------------------------------

    def opened(self, process: SimScheduler, partition: int) -> None:
        """A partition is served: its memory must be the fold of its events."""
        self.refusals.pop(partition, None)
        machine = process.seats[partition].owner.machine
        assert machine is not None
        with self._watching():
            check_fold(self.history.partitions[partition], machine, self.options.tenant)

    def reopened(self, process: SimScheduler, partition: int, reason: str, error: str) -> None:
        """An owner forgets its memory and starts over."""
        self.reopenings.append((partition, reason, error))

    def refused(self, process: SimScheduler, partition: int, error: str) -> None:
        """A partition stays closed."""
        self.refusals[partition] = error

    def decided(self, process: SimScheduler, partition: int, plan: Plan) -> None:
        """The owner knows that a transaction is committed: no timer that is due waits behind ever more batches."""
        machine = process.seats[partition].owner.machine if partition in process.seats else None
        due = machine.next_due_ms() if machine else None
        starved = due is not None and due <= plan.now_ms and plan.timers_fired == 0
        self._starved[partition] = self._starved.get(partition, 0) + 1 if starved else 0
        if self._starved[partition] >= MAX_BATCHES_BEFORE_TIMERS and self.options.limits.commands <= 5:
            with self._watching():
                raise ViolationError(f"partition {partition}: a timer that is due waits batch after batch")

    # -- agreement -----------------------------------------------------------------------------------------------

    def rebuilt(self, partition: int) -> Machine:
        """A machine from what is committed in `state`, its keys in another order."""
        state = dict(reversed(self.log.partitions[partition].state.items()))
        options = self.options
        return rebuild(partition, options.cell, options.partitions, state, options.limits, Retained(":memory:"))

    def check_agreement(self) -> None:
        """fold(events) == memory == rebuild(state) on every partition that is not between decision and commit."""
        for partition, scheduler in enumerate(self.placed):
            if scheduler is None:
                continue
            seat = scheduler.seats[partition]
            machine = seat.owner.machine
            if machine is None or seat.log.plan or not self.log.may_commit(partition, seat.log.epoch):
                continue
            if isinstance(machine.retained, FaultyRetained) and machine.retained.damaged:
                continue
            check_fold(self.history.partitions[partition], machine, self.options.tenant)
            check_rebuild(machine, self.rebuilt(partition))

    # -- workers -------------------------------------------------------------------------------------------------

    def start_worker(
        self, *, name: str | None = None, credits: int = 2, handlers: Sequence[str] = (), queues: Sequence[str] = ()
    ) -> SimWorker:
        """A worker starts, as a new incarnation, and registers with its queues."""
        number = self._next("worker")
        name = name or f"w{number}"
        worker = SimWorker(
            name,
            f"{name}.{number}",
            self.log,
            self.clock,
            self.heartbeats,
            self.options.lease_seconds,
            self._sender(f"{name}.{number}"),
            self._started,
        )
        for queue in queues or self.options.queues:
            worker.register(self.options.tenant, queue, credits, list(handlers or self.options.handlers))
        worker.beat()
        worker.forged = self.forged
        self.workers.append(worker)
        return worker

    def _sender(self, incarnation: str) -> Callable[[str, AnyCommand, bool], None]:
        actor = Actor(ActorKind.WORKER, incarnation)

        def send(stream: str, body: AnyCommand, hold: bool) -> None:
            identity = f"{incarnation}/{self._next('report')}"
            if isinstance(body, jc.ReportCrashed):
                self.history.crash_reports.add(identity)
            self._send(incarnation, Command(id=identity, stream=stream, actor=actor, body=body), hold)

        return send

    def _started(self, worker: SimWorker, run: RunTask) -> None:
        if worker.honest and run.job not in self.forged:
            self.history.check_start(worker.name, run, self.clock.now_ms())

    # -- time and the end ----------------------------------------------------------------------------------------

    def status(self, stream: str) -> JobStatus | None:
        """The status of a job as a reader of the log sees it."""
        job = self.history.job(stream)
        return job.status if job else None

    def jobs(self) -> list[Job]:
        """Every job that was ever accepted, in its last state."""
        return [s for trace in self.history.partitions for s in trace.states.values() if isinstance(s, Job)]

    def step_all(self) -> bool:
        """Every scheduler does all it can, then every worker does all its work; whether anything happened."""
        before = self.log.changes
        for partition in range(self.options.partitions):
            self.seat(partition)
        self.run()
        busy = self.log.changes > before
        for worker in self.workers:
            if worker.running:
                worker.beat()
                busy |= worker.poll()
                for key in list(worker.held):
                    worker.succeed(key)
                    busy = True
        return busy

    def heal(self) -> None:
        """All faults end: what flies arrives, deposed owners are gone, workers that misbehave are restarted."""
        for scheduler in list(self.schedulers):
            scheduler.paused = False
            scheduler.clock.offset_ms = scheduler.clock.slow_ms = 0
            scheduler.disk.full = False
            for seat in scheduler.seats.values():
                seat.log.release()
                seat.log.broken_calls = 0
                seat.feed.skip, seat.feed.stalled = 0, False
        self.network.deliver_all()
        self.heartbeats.resume()
        self.retire()
        for worker in self.workers:
            if not worker.honest or worker.stalled or worker.paused:
                worker.die()
        self.workers = [worker for worker in self.workers if worker.alive]
        self.start_worker(credits=20)

    def drain(self) -> int:
        """Steps and time until nothing is left to do; returns the rounds taken. Raises ViolationError when stuck."""
        idle = 0
        for rounds in range(MAX_DRAIN_ROUNDS):
            if self.step_all():
                idle = 0
            elif idle >= MAX_IDLE_ROUNDS and not self.undone():
                return rounds
            else:
                insist(idle < 3 * MAX_IDLE_ROUNDS, f"stuck: {self.undone()}")
                self._pass_time()
                idle += 1
        raise ViolationError(f"still not idle after {MAX_DRAIN_ROUNDS} rounds: {self.undone()}")

    def _pass_time(self) -> None:
        """To the next timer, or until something happens, by steps that bring every silent worker's lease to its end.

        With a timer that is due: as long as an owner may sleep for a clock that was put ahead meanwhile.
        """
        machines = [machine for p in range(self.options.partitions) if (machine := self.machine(p))]
        dues = [due for machine in machines if (due := machine.next_due_ms())]
        step = round(self.options.lease_seconds * 1000 / 2)
        ahead = step
        if dues and len(machines) == len(self.placed):
            ahead = min(dues) - self.clock.now_ms()
            if ahead <= 0:
                ahead = self.options.max_clock_skew_ms
        before = self.log.changes
        while ahead > 0 and self.log.changes == before:
            self.clock.advance(min(ahead, step))
            ahead -= step
            for worker in self.workers:
                worker.beat()
            if ahead > 0:
                self.run()

    def undone(self) -> list[str]:
        """What is left although all faults are healed; a job that no worker serves may wait for ever."""
        waiting = []
        for job in self.jobs():
            served = job.handler in self.options.handlers and job.queue in self.options.queues
            if job.status not in TERMINAL and (served or job.status is not JobStatus.QUEUED):
                waiting.append(f"{job.id} is {job.status}")
        for partition in range(self.options.partitions):
            machine = self.machine(partition)
            if machine is None:
                reason = self.refusals.get(partition) or self.reopenings[-1:]
                waiting.append(f"partition {partition} is not served: {reason}")
                continue
            waiting += [f"outbox of {partition}: {key!r}" for key in [*machine.outbox, *machine.acknowledged]]
            if machine.unfinished:
                waiting.append(f"pending in {partition}")
        return waiting

    def check_end(self) -> None:
        """After `heal` and `drain`: all that must hold of a world at rest; raises ViolationError."""
        insist(not self.refusals, f"refused: {self.refusals}")
        self.answers.check_all_answered()
        for record in self.log.quarantine:
            check_set_aside(record)
        for job in self.jobs():
            insist(job.status not in TERMINAL or self.history.jobs[job.id].ended == 1, f"{job.id} has ended not once")
        for partition in range(self.options.partitions):
            machine = self.machine(partition)
            insist(machine is not None, f"partition {partition} is not served")
            assert machine is not None
            self._check_gaps(partition, machine)
            for stream, queue in machine.streams["queue"].items():
                insist(not queue.lanes.held, f"{stream}: slots are taken for ever: {queue.lanes.held}")
                for task in queue.lanes.tasks.values():
                    insist(task.handler not in self.options.handlers, f"{stream}: {task.key} waits for ever")
        self.check_agreement()

    def _check_gaps(self, partition: int, machine: Machine) -> None:
        """Numbers of an outbox that are missing for long are told of."""
        highest: dict[int, int] = {}
        for value in self.log.partitions[partition].commands:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                record = read_record(value or b"")
                if record.source is not None:
                    highest[record.source] = max(record.number or 0, highest.get(record.source, 0))
        if any(number > machine.checkpoint.received.get(source, 0) for source, number in highest.items()):
            self.clock.advance(GAP_MS)
            self.run()
            self.clock.advance(GAP_MS)
            self.run()
            insist(self.owner(partition).trouble is not None, f"partition {partition}: a gap that nobody tells of")

    def set_queue_bound(self, queue: str, max_waiting_bytes: int) -> str:
        """A user changes a setting of a queue; returns the command id."""
        stream = queue_stream(self.options.tenant, queue)
        return self.ask(stream, qc.UpdateQueue(max_waiting_bytes=max_waiting_bytes))
