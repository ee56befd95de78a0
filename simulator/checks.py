"""What must hold in every run: judged from committed events alone, as any reader of the log sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobledger.domain.aggregates import State, kind_of, mutate
from jobledger.domain.identity import ID_AHEAD_MS, minted_ms, partition_of, split_stream
from jobledger.domain.job import events as je
from jobledger.domain.job.retry import backoff_seconds
from jobledger.domain.job.state import TERMINAL, Job, JobStatus
from jobledger.domain.queue import events as qe
from jobledger.domain.queue.decide import free_slots
from jobledger.domain.queue.state import QueueState, task_key
from jobledger.domain.values import ActorKind
from jobledger.domain.worker_messages import RunTask
from jobledger.processors.core.plan import EventOut
from jobledger.schemas.events import EventMapper, EventRecord
from jobledger.schemas.limits import MAX_ID_BYTES

_TYPE_HEADER = "ce_type"
_TERMINAL_EVENTS = (je.JobSucceeded, je.JobCancelled, je.JobDeadLettered)
_OVER = (je.TaskSucceeded, je.TaskFailed, je.TaskLost, je.TaskReturned, je.TaskCancelled)
_BACK_OFF = (je.TaskFailed, je.TaskLost)


class ViolationError(AssertionError):
    """Something happened that must never happen; the message says what and where."""


def insist(holds: bool, what: str) -> None:
    """Raise ViolationError with `what` unless `holds`."""
    if not holds:
        raise ViolationError(what)


def event_type(out: EventOut) -> str:
    """The type of an event as its CloudEvents header names it."""
    value = next(value for key, value in out.headers if key == _TYPE_HEADER)
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass
class JobTrace:
    """What the history says of one job beside its state."""

    not_before_ms: int
    live: int | None = None
    started: set[int] = field(default_factory=set)
    over: set[int] = field(default_factory=set)
    #: Attempts that counted, since the job began or was redriven.
    spent: int = 0
    ended: int = 0
    #: When the time began for which the job is remembered; a dead letter is kept until somebody deals with it.
    ended_at_ms: int | None = None


def check_chain(records: Sequence[EventRecord], limit: int) -> None:
    """Within one transaction at most `limit` commands follow from one another; raises ViolationError."""
    depth: dict[str | None, int] = {}
    for record in records:
        depth[record.id] = far = depth.get(record.causation_id, -1) + 1
        insist(far <= limit, f"seq {record.seq}: {far} commands follow from one another, of {limit} allowed")


@dataclass
class PartitionTrace:
    """How far the history of a partition has come."""

    seq: int = 0
    at_ms: int = 0
    states: dict[str, State] = field(default_factory=dict)


class History:
    """Folds committed events and checks each against everything that came before it."""

    def __init__(self, partitions: int, window_ms: int = 0) -> None:
        """`window_ms`: for how long idempotency keys are remembered after their jobs; 0: for ever."""
        self.window_ms = window_ms
        self.partitions = [PartitionTrace() for _ in range(partitions)]
        self.jobs: dict[str, JobTrace] = {}
        self.keys: dict[str, str] = {}
        self.gone: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        #: Ids of the commands by which workers told of a crash.
        self.crash_reports: set[str] = set()
        self._ended_by_owner: set[tuple[str, int]] = set()
        #: Assignments of jobs that were being cancelled, of whose start nobody had told within the limit.
        self._ended_unstarted: set[tuple[str, int]] = set()
        self._told_to_stop: set[tuple[str, int]] = set()
        self._lost: set[tuple[str, str]] = set()
        self._assigned: set[tuple[str, str, int]] = set()
        self._effects: dict[str, tuple[int, int]] = {}
        self._mapper = EventMapper()

    def state(self, stream: str) -> State | None:
        """The folded state of a stream; an ended job keeps its last one."""
        return self.partitions[partition_of(stream, len(self.partitions))].states.get(stream)

    def job(self, stream: str) -> Job | None:
        """The folded state of a job."""
        state = self.state(stream)
        return state if isinstance(state, Job) else None

    def apply(self, partition: int, out: EventOut, latest_ms: int | None = None) -> EventRecord:
        """Take in one committed event as it stands in the log; raises ViolationError.

        `latest_ms`: the true time, and by how much a clock may be wrong.
        """
        name = event_type(out)
        record = self._mapper.read(name, out.value)
        trace = self.partitions[partition]
        stream = record.originator_id
        self.types[name] += 1
        insist(record.seq == trace.seq + 1, f"partition {partition}: seq {record.seq} after {trace.seq}")
        insist(record.at_ms >= trace.at_ms, f"partition {partition}: time ran back at seq {record.seq}")
        early = latest_ms is not None and record.at_ms > latest_ms
        insist(not early, f"partition {partition}: seq {record.seq} is {record.at_ms - (latest_ms or 0)} ms too early")
        insist(partition_of(stream, len(self.partitions)) == partition, f"{stream} is not of partition {partition}")
        self._check_effect(partition, record)
        before = trace.states.get(stream)
        self._check_before(before, record)
        try:
            after = mutate(before, record)
        except Exception as error:
            raise ViolationError(f"{stream} cannot take {name} (seq {record.seq}): {error!r}") from error
        trace.states[stream], trace.seq, trace.at_ms = after, record.seq, record.at_ms
        self._check_after(after, record)
        return record

    def _check_effect(self, partition: int, record: EventRecord) -> None:
        """A user's command has effect once: its events are those of one decision, one behind the other."""
        if record.actor.kind is ActorKind.SYSTEM:
            return
        size = len(record.command_id.encode())
        insist(size <= MAX_ID_BYTES, f"partition {partition}: a command whose id has {size} bytes took effect")
        if record.actor.kind is not ActorKind.USER:
            return
        known = self._effects.get(record.command_id)
        insist(
            known in (None, (partition, record.seq - 1)),
            f"command {record.command_id} took effect twice: {known} and {(partition, record.seq)}",
        )
        self._effects[record.command_id] = (partition, record.seq)

    def forgotten(self, stream: str, at_ms: int) -> bool:
        """Whether a job has ended so long ago that nothing of it needs to be remembered."""
        ended_at_ms = self.jobs[stream].ended_at_ms
        return self.window_ms > 0 and ended_at_ms is not None and ended_at_ms + self.window_ms <= at_ms

    def had_effect(self, command_id: str, until_seq: int) -> bool:
        """Whether a user's command has made events, up to `until_seq` of its partition."""
        known = self._effects.get(command_id)
        return known is not None and known[1] <= until_seq

    # -- before the event is folded ------------------------------------------------------------------------------

    def _check_before(self, state: State | None, record: EventRecord) -> None:
        event = record.data
        if isinstance(state, Job):
            self._check_job(state, record)
        elif isinstance(state, QueueState) and isinstance(event, qe.TaskAssigned):
            self._check_assigned(state, event)
        elif isinstance(state, QueueState) and isinstance(event, qe.TaskCancelSent):
            self._told_to_stop.add((event.job, event.assignment))
        elif isinstance(state, QueueState) and isinstance(event, qe.TaskReleased):
            self._check_released(state, event)
        elif isinstance(event, je.JobSubmitted):
            insist(state is None, f"{record.originator_id} submitted twice")
            self._check_submitted(event, record)

    def _check_submitted(self, event: je.JobSubmitted, record: EventRecord) -> None:
        stream = record.originator_id
        self.jobs[stream] = JobTrace(not_before_ms=event.due_at_ms)
        made_ms = minted_ms(split_stream(stream)[2])
        insist(made_ms is not None, f"{stream} began under an id that tells no time")
        assert made_ms is not None
        early = self.window_ms > 0 and made_ms + self.window_ms <= record.at_ms
        fits = not early and made_ms <= record.at_ms + ID_AHEAD_MS
        insist(fits, f"{stream} began at {record.at_ms} under an id of another time")
        if event.key_digest is not None:
            first = self.keys.get(event.key_digest)
            free = first is None or self.forgotten(first, record.at_ms)
            insist(free, f"key {event.key_digest}: {first} and {stream}")
            self.keys[event.key_digest] = stream

    def _check_released(self, state: QueueState, event: qe.TaskReleased) -> None:
        task = state.lanes.tasks[task_key(event.job, event.task)]
        key = (event.job, event.assignment)
        told = task.lost or key not in self._ended_by_owner or key in self._told_to_stop
        insist(told, f"{key} was ended by its owner, and worker {event.worker} was not told to stop")

    def _check_job(self, job: Job, record: EventRecord) -> None:
        event, trace, name = record.data, self.jobs[job.id], f"{job.id} seq {record.seq}"
        if isinstance(event, je.JobRedriven | je.JobDiscarded):
            self._check_dead_letter(job, event, record)
            return
        insist(not trace.ended, f"{name}: {type(event).__name__} after the end of the job")
        if isinstance(event, je.TaskReady):
            insist(trace.live is None, f"{name}: assignment {event.assignment} beside live {trace.live}")
            insist(record.at_ms >= trace.not_before_ms, f"{name}: ready {trace.not_before_ms - record.at_ms} ms early")
            insist(event.assignment == job.main.assignment + 1, f"{name}: assignment {event.assignment} not the next")
            insist(event.attempt <= job.retry.max_attempts, f"{name}: attempt {event.attempt} over the most allowed")
            insist(event.attempt == trace.spent + 1, f"{name}: attempt {event.attempt} after {trace.spent}")
            trace.live = event.assignment
        elif isinstance(event, je.TaskStarted):
            insist(trace.live == event.assignment, f"{name}: start of {event.assignment}, live is {trace.live}")
            insist(event.assignment not in trace.started, f"{name}: assignment {event.assignment} started twice")
            trace.started.add(event.assignment)
        elif isinstance(event, _OVER):
            self._check_over(job, event, record, trace)
        elif isinstance(event, _TERMINAL_EVENTS):
            insist(trace.live is None, f"{name}: ended while assignment {trace.live} is out")
            trace.ended += 1
            trace.ended_at_ms = None if isinstance(event, je.JobDeadLettered) else record.at_ms

    def _check_dead_letter(self, job: Job, event: je.JobRedriven | je.JobDiscarded, record: EventRecord) -> None:
        """A user deals with a dead letter: it begins anew, or is over for good."""
        trace, name = self.jobs[job.id], f"{job.id} seq {record.seq}"
        insist(job.status is JobStatus.DEAD_LETTERED, f"{name}: {type(event).__name__}, but it is {job.status}")
        if isinstance(event, je.JobDiscarded):
            trace.ended_at_ms = record.at_ms
            return
        insist(event.run == job.run + 1, f"{name}: run {event.run} after {job.run}")
        trace.ended, trace.spent = 0, 0

    def _check_over(self, job: Job, event: Any, record: EventRecord, trace: JobTrace) -> None:
        name = f"{job.id} seq {record.seq}"
        insist(trace.live == event.assignment, f"{name}: {event.assignment} is over, but live is {trace.live}")
        insist(event.assignment not in trace.over, f"{name}: assignment {event.assignment} over twice")
        trace.over.add(event.assignment)
        # But for jobs with a short limit every worker here reports, stops, or loses its lease, long before that.
        timed = record.command_id.startswith("timer/")
        insist(not timed or job.timeout_seconds is not None, f"{name}: {event.assignment} lasted until its limit")
        if isinstance(event, je.TaskFailed) and event.by_owner:
            self._ended_by_owner.add((job.id, event.assignment))
        if isinstance(event, je.TaskLost) and timed:
            self._ended_unstarted.add((job.id, event.assignment))
        free = isinstance(event, je.TaskLost) and event.before_start
        insist(not (free and record.command_id in self.crash_reports), f"{name}: a crash that costs no attempt")
        trace.spent += isinstance(event, _BACK_OFF) and not free
        trace.live = None
        if isinstance(event, _BACK_OFF) and event.retry_at_ms is not None:
            asked = event.retry_after_seconds if isinstance(event, je.TaskFailed) else None
            wait = backoff_seconds(job.retry, event.attempt, event.execution_id) if asked is None else asked
            trace.not_before_ms = record.at_ms + round(wait * 1000)

    def _check_assigned(self, state: QueueState, event: qe.TaskAssigned) -> None:
        key = (event.job, event.task, event.assignment)
        count = len(self.partitions)
        if partition_of(event.job, count) == partition_of(state.queue.id, count):
            # Elsewhere a cancel may be on its way still.
            job = self.job(event.job)
            insist(job is None or job.status is not JobStatus.CANCELLING, f"{key} handed out after its cancel")
        insist(key not in self._assigned, f"{state.queue.id}: assignment {key} made twice")
        self._assigned.add(key)
        worker = state.workers.get(event.incarnation)
        lost = (state.queue.id, event.incarnation) in self._lost
        insist(worker is not None and not lost, f"{state.queue.id}: {key} to an absent or lost worker")
        assert worker is not None
        held = len(state.lanes.held_by(event.incarnation))
        insist(held < worker.credits, f"{state.queue.id}: {held} held of {worker.credits} credits, and one more")
        task = state.lanes.tasks.get(task_key(event.job, event.task))
        insist(task is not None and task.incarnation is None, f"{state.queue.id}: {key} does not wait")
        assert task is not None
        insist(task.handler in worker.handlers, f"{state.queue.id}: {key} to a worker that cannot run it")
        served = {handler for incarnation in free_slots(state) for handler in state.workers[incarnation].handlers}
        best = min(
            (other.priority, other.number)
            for other in state.lanes.tasks.values()
            if other.incarnation is None and other.handler in served
        )
        insist((task.priority, task.number) == best, f"{state.queue.id}: {key} before one of higher priority or older")

    # -- after it ------------------------------------------------------------------------------------------------

    def _check_after(self, state: State, record: EventRecord) -> None:
        status = kind_of(record.originator_id).status(state)
        insist(record.status in (None, status), f"seq {record.seq} says {record.status}, but the job is {status}")
        if not isinstance(state, QueueState):
            return
        if isinstance(record.data, qe.WorkerLost):
            self._lost.add((state.queue.id, record.data.incarnation))
        elif isinstance(record.data, qe.WorkerRemoved):
            self._lost.discard((state.queue.id, record.data.incarnation))
        elif isinstance(record.data, qe.TaskRemoved | qe.TaskReleased):
            self.gone[state.queue.id] += 1
        here, gone = len(state.lanes.tasks), self.gone[state.queue.id]
        insist(state.queue.enqueued == here + gone, f"{state.queue.id}: {state.queue.enqueued} != {here} + {gone}")

    # -- the workers' journal ------------------------------------------------------------------------------------

    def check_start(self, worker: str, run: RunTask, now_ms: int) -> None:
        """An honest worker starts a handler: the log must say that this assignment, and no other, is out.

        But for one that reaches its worker later than a cancelled job waits for a start: nothing can call it back.
        """
        if (run.job, run.assignment) in self._ended_unstarted:
            return
        job = self.job(run.job)
        insist(job is not None, f"worker {worker} starts {run.job}, which does not exist")
        assert job is not None
        insist(job.status not in TERMINAL, f"worker {worker} starts {run.job} after {job.status}")
        live = self.jobs[run.job].live
        insist(live == run.assignment, f"worker {worker} starts {run.job}/{run.assignment}, but {live} is out")
        insist(
            (run.job, run.task, run.assignment) in self._assigned, f"{run.job}: {run.assignment} was never handed out"
        )
        trace = self.partitions[partition_of(run.job, len(self.partitions))]
        latest = max(now_ms, trace.at_ms)
        insist(
            latest >= run.due_at_ms, f"worker {worker} starts {run.job} {run.due_at_ms - latest} ms before it is due"
        )
