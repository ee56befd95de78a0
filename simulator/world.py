"""The simulated world: partitions with their owners, workers, users, a log, a network and a clock.

Nothing happens by itself: each method is one step, and the caller decides the order. `drain()` takes steps
until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobledger.domain import job_commands as jc
from jobledger.domain import queue_commands as qc
from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import job_stream, key_stream, partition_of, queue_stream
from jobledger.domain.job_state import TERMINAL, Job, JobStatus
from jobledger.domain.values import Actor, ActorKind, Lineage, Opaque, RetryPolicy
from jobledger.domain.worker_messages import RunTask
from jobledger.processors.core.machine import Limits
from jobledger.processors.core.plan import Plan
from jobledger.schemas.commands import Command, CommandRecord, encode_record
from jobledger.schemas.events import EventRecord
from jobledger.simulator.agreement import check_fold, check_rebuild
from jobledger.simulator.checks import History, ViolationError, insist
from jobledger.simulator.clock import START_MS, HeartbeatTable, VirtualClock
from jobledger.simulator.log import MemoryLog, Network
from jobledger.simulator.outcomes import Answers
from jobledger.simulator.owner import CommitFault, OwnerSettings, SimOwner
from jobledger.simulator.worker import SimWorker

USER = Actor(ActorKind.USER, "somebody")
#: Rounds without any progress after which the world counts as stuck.
MAX_IDLE_ROUNDS = 4
MAX_DRAIN_ROUNDS = 2_000
_YEARS_MS = 10 * 366 * 86_400_000


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    """How big the world is, and the bounds of its owners."""

    partitions: int = 3
    cell: str = "sim"
    tenant: str = "default"
    queues: tuple[str, ...] = ("default", "other")
    handlers: tuple[str, ...] = ("work", "report")
    #: No broker's clock is here to say which time is wrong: a clock that was set back is waited for.
    limits: Limits = field(default_factory=lambda: Limits(dedup_window_ms=_YEARS_MS, ahead_ms=_YEARS_MS))
    lease_seconds: float = 10.0
    start_ms: int = START_MS


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a user submits. `key` is the digest of an idempotency key, `request` that of the whole request."""

    handler: str = "work"
    queue: str = "default"
    payload: str = "{}"
    priority: int = 3
    delay_ms: int = 0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    key: str | None = None
    request: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


class World:
    """See the module. Every committed transaction is checked at once; a breach raises ViolationError."""

    def __init__(self, options: WorldOptions | None = None) -> None:
        self.options = options or WorldOptions()
        self.clock = VirtualClock(self.options.start_ms)
        self.heartbeats = HeartbeatTable(self.clock)
        self.log = MemoryLog(self.options.partitions)
        self.log.listeners.append(self._committed)
        self.network = Network(self.log)
        self.history = History(self.options.partitions)
        self.answers = Answers(self.history)
        self.records: list[EventRecord] = []
        self.workers: list[SimWorker] = []
        self.zombies: list[SimOwner] = []
        #: Jobs on which a lying worker claimed an assignment that was never its own: others may start them in vain.
        self.forged: set[str] = set()
        self._settings = OwnerSettings(
            self.options.cell, self.options.partitions, self.options.limits, self.options.lease_seconds
        )
        self._counts = {"job": 0, "command": 0, "worker": 0, "owner": 0, "report": 0}
        self._request_ids: list[str] = []
        self.owners: list[SimOwner | None] = [self._owner(p) for p in range(self.options.partitions)]

    def _next(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]

    def _committed(self, partition: int, plan: Plan) -> None:
        for out in plan.events:
            self.records.append(self.history.apply(partition, out))
        for outcome in plan.outcomes:
            self.answers.take(outcome)

    # -- users ---------------------------------------------------------------------------------------------------

    @property
    def command_ids(self) -> Sequence[str]:
        """Ids of the users' commands so far, oldest first."""
        return self._request_ids

    def new_job(self, key: str | None = None) -> str:
        """A stream id for a job, on the partition of its idempotency key when it has one."""
        while True:
            made = f"{self.clock.now_ms():012x}"
            stream = job_stream(self.options.tenant, f"{made[:8]}-{made[8:]}-7000-8000-{self._next('job'):012x}")
            if key is None:
                return stream
            home = partition_of(key_stream(self.options.tenant, key), self.options.partitions)
            if partition_of(stream, self.options.partitions) == home:
                return stream

    def submit(self, job: NewJob | str = "work", *, hold: bool = False) -> str:
        """A user submits a job (or one with a handler of that name); returns its stream id.

        With an idempotency key that was used before, no job of that id comes to be.
        """
        new = NewJob(handler=job) if isinstance(job, str) else job
        body = jc.SubmitJob(
            handler=new.handler,
            queue=new.queue,
            payload=Opaque(new.payload),
            priority=new.priority,
            due_at_ms=self.clock.now_ms() + new.delay_ms if new.delay_ms else None,
            retry=new.retry,
            lineage=Lineage(tags=new.tags),
            key_digest=new.key,
            request_digest=new.request,
        )
        stream = self.new_job(new.key)
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
        self.network.send(
            producer, destination, encode_record(CommandRecord(commands=[command])), lambda: None, hold=hold
        )

    # -- owners --------------------------------------------------------------------------------------------------

    def _owner(self, partition: int) -> SimOwner:
        name = f"owner-{self._next('owner')}"
        return SimOwner(name, partition, self._settings, self.log, self.network, self.clock, self.heartbeats)

    def owner(self, partition: int) -> SimOwner:
        """The owner of a partition; a new one takes over when there is none."""
        owner = self.owners[partition]
        if owner is None or not owner.alive:
            owner = self.owners[partition] = self._open(partition)
        return owner

    def _open(self, partition: int) -> SimOwner:
        owner = self._owner(partition)
        check_fold(self.history.partitions[partition], owner.machine, self.options.tenant)
        return owner

    def turn(self, partition: int, *, single: bool = False) -> bool:
        """One whole turn of the owner of a partition; False when it had nothing to do."""
        return self.owner(partition).turn(single=single)

    def commit(self, partition: int, fault: CommitFault = CommitFault.NONE) -> None:
        """The owner commits what it has decided; after a fault the next one recovers from `state`."""
        owner = self.owner(partition)
        if not owner.commit(fault):
            self.owners[partition] = None

    def crash(self, partition: int) -> None:
        """kill -9 of an owner: its memory and what it had decided are gone; what it had sent may still arrive."""
        owner = self.owners[partition]
        if owner is not None:
            owner.alive = False
        self.owners[partition] = None

    def take_over(self, partition: int) -> None:
        """Another owner opens the partition while the old one still believes in itself."""
        old = self.owners[partition]
        if old is not None and old.alive:
            self.zombies.append(old)
        self.owners[partition] = self._open(partition)

    def zombie_commits(self, choice: int) -> None:
        """A deposed owner goes on where it was stopped: it must not get anything into the log."""
        zombie = self.zombies.pop(choice % len(self.zombies))
        if zombie.decide() and zombie.commit():
            raise ViolationError(f"partition {zombie.partition}: a deposed owner committed")
        zombie.relay()

    def check_agreement(self) -> None:
        """fold(events) == memory == rebuild(state) on every partition that is not between decision and commit."""
        for partition, owner in enumerate(self.owners):
            if owner is None or owner.plan is not None or not self.log.may_commit(partition, owner.epoch):
                continue
            check_fold(self.history.partitions[partition], owner.machine, self.options.tenant)
            check_rebuild(owner.machine, owner.rebuilt())

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
        """A turn of every owner, then every worker does all its work; whether anything happened."""
        busy = [self.turn(partition) for partition in range(self.options.partitions)].count(True) > 0
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
        self.network.deliver_all()
        self.heartbeats.resume()
        self.zombies.clear()
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
        """To the next timer; when there is none, by steps that bring every silent worker's lease to its end."""
        dues = [due for p in range(self.options.partitions) if (due := self.owner(p).machine.next_due_ms())]
        step = round(self.options.lease_seconds * 1000 / 2)
        ahead = max(1, min(dues) - self.clock.now_ms()) if dues else step
        while ahead > 0:
            self.clock.advance(min(ahead, step))
            ahead -= step
            for worker in self.workers:
                worker.beat()
            if ahead > 0:
                for partition in range(self.options.partitions):
                    self.turn(partition)

    def undone(self) -> list[str]:
        """What is left although all faults are healed; a job that no worker serves may wait for ever."""
        waiting = []
        for job in self.jobs():
            served = job.handler in self.options.handlers and job.queue in self.options.queues
            if job.status not in TERMINAL and (served or job.status is not JobStatus.QUEUED):
                waiting.append(f"{job.id} is {job.status}")
        for partition in range(self.options.partitions):
            machine = self.owner(partition).machine
            waiting += [f"outbox of {partition}: {key!r}" for key in [*machine.outbox, *machine.acknowledged]]
            waiting += [f"pending in {partition}: {one.command.id}" for one in machine.pending]
        return waiting

    def check_end(self) -> None:
        """After `heal` and `drain`: all that must hold of a world at rest; raises ViolationError."""
        self.answers.check_all_answered()
        for job in self.jobs():
            insist(job.status not in TERMINAL or self.history.jobs[job.id].ended == 1, f"{job.id} has ended not once")
        for partition in range(self.options.partitions):
            for stream, queue in self.owner(partition).machine.queues.items():
                insist(not queue.lanes.held, f"{stream}: slots are taken for ever: {queue.lanes.held}")
                for task in queue.lanes.tasks.values():
                    insist(task.handler not in self.options.handlers, f"{stream}: {task.key} waits for ever")
        self.check_agreement()

    def set_queue_bound(self, queue: str, max_waiting_bytes: int) -> str:
        """A user changes a setting of a queue; returns the command id."""
        stream = queue_stream(self.options.tenant, queue)
        return self.ask(stream, qc.UpdateQueue(max_waiting_bytes=max_waiting_bytes))
