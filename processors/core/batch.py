"""One batch of decisions: commands in, events, state, outcomes and outbox entries out."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobledger.domain.aggregates import AGGREGATES, State, head, mutate
from jobledger.domain.commands import CREATING, REMEMBERED
from jobledger.domain.effects import Effect, FollowUp
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import fault_of_new_job_id, minted_ms, partition_of, split_stream
from jobledger.domain.job import ended_job
from jobledger.domain.job_commands import SubmitJob
from jobledger.domain.job_events import JobSubmitted
from jobledger.domain.job_state import Job, JobStatus, submitted_events
from jobledger.domain.queue import DISPATCH_AFTER
from jobledger.domain.queue_commands import DispatchTasks
from jobledger.domain.queue_events import CreditsSet, QueueTaskEvent, TaskAssigned, WorkerLost, WorkerRemoved
from jobledger.domain.queue_state import QueueState, task_key
from jobledger.domain.values import SYSTEM, ActorKind, Answer, Code, Lineage, Rejection
from jobledger.processors.core.answers import Answers, read_envelope
from jobledger.processors.core.checkpoint import Pending
from jobledger.processors.core.outgoing import Outgoing
from jobledger.processors.core.plan import EventOut, Plan
from jobledger.processors.core.state_records import (
    CHECKPOINT_KEY,
    KeyEntry,
    Stub,
    decode_state,
    encode_state,
    idempotency_key,
    queue_task_key,
    queue_worker_key,
    snapshot_key,
    stub_key,
    unchanged_key,
)
from jobledger.schemas.commands import BrokenCommand, Command, encode_command
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.schemas.limits import MAX_ID_BYTES, MAX_MESSAGE_BYTES, MAX_STREAM_BYTES
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.schemas.quarantine import MAX_REASON_LENGTH, Quarantined

if TYPE_CHECKING:
    from jobledger.processors.core.machine import Machine

#: Events of one decision. One that fans out further names a part and goes on by a command to itself.
MAX_EVENTS_PER_DECISION = 500
#: What a command that finds no room any more may add to a batch, so that timers and leases are never starved.
MAX_SQUEEZED_BYTES = 256 * 1024
MAX_STATE_BYTES = MAX_MESSAGE_BYTES - 4096
#: Errors of the machine that this runs on: nobody's command is to blame for them.
ENVIRONMENT = (sqlite3.Error, OSError, MemoryError)
_mapper = EventMapper()
_encode_event = _mapper.transcoder.encode


class OversizeError(ValueError):
    """A record of a decision is larger than Kafka takes; nothing of the batch has been produced."""


class UndecidedError(RuntimeError):
    """A batch failed by what was decided in it; nothing of it has been produced, and the machine is of no use now.

    `culprit` names the command to set aside; None: one of `units` commands, which have to be decided one at a time.
    """

    def __init__(self, message: str, culprit: str | None, units: int) -> None:
        super().__init__(message)
        self.culprit = culprit
        self.units = units


def log_unit(offset: int, index: int) -> str:
    """Names a command of the log, as one that can be set aside; others go by their command id."""
    return f"log/{offset}/{index}"


def _oversize(what: str, size: int) -> OversizeError:
    return OversizeError(f"A {what} of {size} bytes is over the bound of {MAX_STATE_BYTES}.")


class Batch:
    """Collects the decisions of one transaction; see `Machine.decide`."""

    def __init__(self, machine: Machine, now: int, over_time: Callable[[], bool], max_commands: int) -> None:
        self._machine = machine
        self._now = now
        #: The time of events never runs backwards; see Machine.time_ms for when it is not `now`.
        self._stamp_ms = max(now, machine.checkpoint.now_ms)
        self._over_time = over_time
        self._max_commands = max_commands
        self._plan = Plan(now_ms=now, checkpoint=machine.checkpoint)
        self._outgoing = Outgoing(machine.partition, machine.checkpoint)
        self._local: deque[Pending] = deque()
        self._too_deep = False
        self._touched: dict[str, State] = {}
        self._dirty_tasks: dict[tuple[str, str], None] = {}
        self._dirty_workers: dict[tuple[str, str], None] = {}
        self._to_dispatch: dict[str, None] = {}
        self._keys: dict[bytes, KeyEntry] = {}
        self._answers = Answers(machine, self._plan, self._stamp_ms, self._touched)
        self._at: tuple[int, int] | None = None
        #: Source partition and number of the outbox record that is being taken, for its events.
        self.source: tuple[int | None, int | None] = (None, None)
        self._kept: list[tuple[bytes, bytes, int]] = []
        self._commands = 0
        self._bytes = 0
        #: What is being decided, by the name under which it would come again; None: what follows from something.
        self._unit: str | None = None
        self.consumed = False

    @property
    def full(self) -> bool:
        """Whether a bound of the batch is reached.

        What goes too deep ends the batch too: nothing that is decided later may overtake it.
        """
        limits = self._machine.limits
        return (
            self._commands >= self._max_commands
            or len(self._plan.events) + len(self._plan.outcomes) >= limits.records
            or self._bytes >= limits.bytes
            or self._too_deep
            or (self._commands > 0 and self._over_time())
        )

    @property
    def started(self) -> bool:
        """Whether the batch holds anything yet."""
        return self._commands > 0 or self.consumed

    # -- running commands ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Run first what earlier batches had no room for. What follows from it goes behind all of it."""
        pending = self._machine.pending
        while pending and not self.full:
            item = pending.take()
            self._begin(item.command, item.command.id, item.depth)
        if not pending:
            self._drain()

    def run(self, command: Command) -> None:
        """Decide a command of the owner itself and, in turn, what follows from it on this partition."""
        self._begin(command, command.id, depth=0)
        self._drain()

    def run_logged(self, command: Command, offset: int, index: int) -> None:
        """`run` for a command of the log."""
        self._at, self._answers.offset = (offset, index), offset
        self._begin(command, log_unit(offset, index), depth=0, sent_here=True)
        self._at = self._answers.offset = None
        self._drain()

    def squeeze(self, command: Command) -> bool:
        """Decide a command of the owner although the batch is full; False when even that is too much.

        What follows from it waits for the next batch, behind what waits already.
        """
        before = self._bytes
        self._begin(command, command.id, depth=0)
        return self._bytes - before < MAX_SQUEEZED_BYTES and len(self._local) < self._machine.limits.commands

    def _begin(self, command: Command, unit: str, depth: int, *, sent_here: bool = False) -> None:
        """Decide what came from outside of this batch: it can be told by `unit` when it fails."""
        aside = self._machine.aside
        self._unit = unit
        self._plan.unit = unit
        if aside and unit in aside:
            self._commands += 1
            self._plan.aside.append(unit)
            self.quarantine(command, aside[unit])
        else:
            self._decide(command, depth, sent_here=sent_here)
        self._unit = None

    def _drain(self) -> None:
        while self._local and not self.full:
            item = self._local.popleft()
            self._decide(item.command, item.depth)

    def undecided(self, error: Exception) -> UndecidedError:
        """Who is to blame for an exception of this batch."""
        alone = self._plan.unit if self._commands == 1 else None
        return UndecidedError(f"{type(error).__name__}: {error}", self._unit or alone, self._commands)

    def _dispatch_queues(self) -> None:
        """Hand out tasks once per queue and batch, after everything else has been decided."""
        while self._to_dispatch and not self.full:
            stream = next(iter(self._to_dispatch))
            del self._to_dispatch[stream]
            self._decide(self._dispatch_command(stream), depth=0)
            self._drain()

    def _dispatch_command(self, stream: str) -> Command:
        identity = f"dispatch/{self._machine.partition}/{self._machine.checkpoint.seq}/{stream}"
        return Command(id=identity, stream=stream, actor=SYSTEM, body=DispatchTasks())

    def _decide(self, command: Command, depth: int, *, sent_here: bool = False) -> None:
        self._commands += 1
        stream = command.stream
        try:
            if sent_here and (belongs := partition_of(stream, self._machine.checkpoint.partitions)) != (
                self._machine.partition
            ):
                self.quarantine(command, f"Stream '{stream}' lives on partition {belongs}; send it there.")
                return
            kind = stream.partition(":")[0]
            state = self.peek(stream)
            first = self._first_outcome(command, state)
            if first is not None:
                self._answers.tell(command, "DUPLICATE" if isinstance(first, Outcome) else "REJECTED", first)
                return
            decision = AGGREGATES[kind].decide(stream, state, command.body, self._now)
            records = self._write_events(command, state, decision) if isinstance(decision, list) else []
        except ENVIRONMENT:
            raise
        except Exception as error:  # noqa: BLE001 - one bad command must not stop the others: it is quarantined
            self.quarantine(command, f"{type(error).__name__}: {error}")
            return
        if isinstance(decision, Rejection):
            self._answers.tell(command, "REJECTED", decision)
        elif isinstance(decision, Answer):
            self._answers.tell(command, "QUERY", decision)
        else:
            if records:
                self._record(command, state, records, depth)
            elif isinstance(command.body, REMEMBERED):
                self._remember_unchanged(command)
            self._answers.tell(command, "ACCEPTED", None)

    def _first_outcome(self, command: Command, state: State | None) -> Outcome | Rejection | None:
        """What a repeated command got the first time; None when the command is new."""
        body = command.body
        if isinstance(body, SubmitJob):
            return self._first_submission(command, body, state)
        if not isinstance(body, REMEMBERED):
            return None
        stub = self._answers.stub(command.stream) if state is None else None
        recent = head(state).recent if state is not None else stub.recent if stub else []
        seq = self._machine.checkpoint.seq
        if command.id not in recent:
            unchanged = self._key(unchanged_key(command.stream, command.id))
            if unchanged is None:
                return ended_job(command.stream, stub.status, body) if stub else None
            seq = unchanged.seq
        elif state is not None and isinstance(body, CREATING):
            seq = head(state).created_seq
        return self._answers.outcome(command, OutcomeStatus.ACCEPTED, seq=seq, duplicate=True)

    def _first_submission(self, command: Command, body: SubmitJob, state: State | None) -> Outcome | Rejection | None:
        if body.key_digest is not None:
            entry = self._key(idempotency_key(split_stream(command.stream)[1], body.key_digest))
            if entry is not None:
                seq = entry.seq + entry.submitted_events - 1
                return self._same_request(command, body, entry.request_digest, entry.stream, seq, "idempotencyKey")
        if isinstance(state, Job):
            seq = state.created_seq + submitted_events(state) - 1
            return self._same_request(command, body, state.request_digest, command.stream, seq, "commandId")
        stub = self._answers.stub(command.stream)
        if stub is None:
            return self._unfit_id(command)
        seq = stub.seq + stub.submitted_events - 1
        return self._same_request(command, body, stub.request_digest, command.stream, seq, "commandId")

    def _unfit_id(self, command: Command) -> Rejection | None:
        """A stream must not begin twice: its versions would start over, which no reader can follow."""
        job = split_stream(command.stream)[2]
        by_system = command.actor.kind is ActorKind.SYSTEM
        fault = fault_of_new_job_id(job, self._stamp_ms, self._machine.limits.dedup_window_ms, by_system=by_system)
        return None if fault is None else Rejection(code=Code.INVALID, message=fault, field="commandId", value=job)

    def _same_request(
        self, command: Command, body: SubmitJob, digest: str | None, stream: str, seq: int, field: str
    ) -> Outcome | Rejection:
        if digest and body.request_digest and digest != body.request_digest:
            return Rejection(
                code=Code.IDEMPOTENCY_KEY_REUSED,
                message=f"Expected the request that was first sent with this {field} (it is job "
                f"'{split_stream(stream)[2]}'), but got another one.",
                field=field,
                value=split_stream(stream)[2],
            )
        return self._answers.outcome(command, OutcomeStatus.ACCEPTED, seq=seq, stream=stream, duplicate=True)

    def _key(self, key: bytes) -> KeyEntry | None:
        if key in self._keys:
            return self._keys[key]
        data = self._machine.retained.get(key)
        if data is None:
            return None
        entry: KeyEntry = decode_state(data)
        return entry

    def _remember_unchanged(self, command: Command) -> None:
        """A command of a user that was accepted and left no event: its repeat gets the same outcome, whatever became
        of the stream meanwhile."""
        if command.actor.kind is ActorKind.USER:
            expires = self._now + self._machine.limits.dedup_window_ms
            entry = KeyEntry(command.stream, self._machine.checkpoint.seq, expires_at_ms=expires)
            self._keys[unchanged_key(command.stream, command.id)] = entry

    # -- events --------------------------------------------------------------------------------------------------

    def peek(self, stream: str) -> State | None:
        """The state of a stream as this batch sees it."""
        return self._answers.peek(stream)

    def _write_events(
        self, command: Command, state: State | None, events: list[AnyEvent]
    ) -> list[tuple[EventRecord, bytes]]:
        """The events of a decision as they will stand in the log. Nothing is changed yet: a decision whose events
        cannot be written is undone by not going on. Raises OversizeError."""
        if len(events) > MAX_EVENTS_PER_DECISION:
            raise OversizeError(f"A decision of {len(events)} events is over the bound of {MAX_EVENTS_PER_DECISION}.")
        written = []
        seq = self._machine.checkpoint.seq
        version = 0 if state is None else head(state).version
        for number, event in enumerate(events, 1):
            record = self._envelope(command, state, event, seq + number, version + number)
            value = _encode_event(record)
            if len(value) > MAX_STATE_BYTES:
                raise _oversize("event", len(value))
            written.append((record, value))
        return written

    def _record(
        self, command: Command, state: State | None, records: list[tuple[EventRecord, bytes]], depth: int
    ) -> None:
        stream = command.stream
        aggregate = AGGREGATES[stream.partition(":")[0]]
        key = stream.encode()
        source = f"/cells/{self._machine.checkpoint.cell}/tenants/{records[0][0].tenant}".encode()
        for record, value in records:
            event = record.data
            state = mutate(state, record)
            self._bytes += len(value)
            self._plan.events.append(EventOut(key, value, cloudevents_headers(record, source)))
            self._plan.records.append(record)
            if isinstance(event, JobSubmitted) and event.key_digest:
                entry = KeyEntry(stream, record.seq, event.request_digest, submitted_events=len(records))
                self._keys[idempotency_key(record.tenant, event.key_digest)] = entry
            if isinstance(state, QueueState):
                self._note_queue(stream, event)
            for effect in aggregate.react(state, event):
                self._follow(effect, record, depth)
        assert state is not None
        self._touched[stream] = state
        self._machine.checkpoint.seq += len(records)

    def _envelope(self, command: Command, state: State | None, event: AnyEvent, seq: int, version: int) -> EventRecord:
        stream = command.stream
        job = state if isinstance(state, Job) else None
        lineage = job.lineage if job else command.body.lineage if isinstance(command.body, SubmitJob) else Lineage()
        offset, index = self._at or (None, None)
        source, number = self.source if self._at else (None, None)
        return EventRecord(
            id=f"{self._machine.partition}-{seq}",
            originator_id=stream,
            originator_version=version,
            seq=seq,
            tenant=split_stream(stream)[1],
            at_ms=self._stamp_ms,
            command_id=command.id,
            actor=command.actor,
            data=event,
            causation_id=command.causation_id,
            correlation_id=command.correlation_id or (job.correlation_id if job else None),
            traceparent=command.traceparent or (job.traceparent if job else None),
            lineage=lineage,
            command_offset=offset,
            command_index=index,
            source=source,
            source_number=number,
        )

    def _sized(self, value: bytes) -> bytes:
        if len(value) > MAX_STATE_BYTES:
            raise _oversize("record", len(value))
        self._bytes += len(value)
        return value

    def _note_queue(self, stream: str, event: AnyEvent) -> None:
        if isinstance(event, QueueTaskEvent):
            self._dirty_tasks[stream, task_key(event.job, event.task)] = None
        elif isinstance(event, CreditsSet | WorkerLost | WorkerRemoved):
            self._dirty_workers[stream, event.incarnation] = None
            if isinstance(event, WorkerLost):
                self._dirty_tasks.update(((stream, key), None) for key in event.lost)
        if isinstance(event, (*DISPATCH_AFTER, TaskAssigned)):
            self._to_dispatch[stream] = None

    def _follow(self, effect: Effect, record: EventRecord, depth: int) -> None:
        if not isinstance(effect, FollowUp):
            self._bytes += self._outgoing.to_worker(effect.message)
            return
        self._outgoing.count += 1
        command = Command(
            id=f"{record.id}/{self._outgoing.count}",
            stream=effect.stream,
            actor=SYSTEM,
            body=effect.body,
            causation_id=record.id,
            correlation_id=record.correlation_id,
            traceparent=record.traceparent,
        )
        partition = partition_of(effect.stream, self._machine.checkpoint.partitions)
        if partition != self._machine.partition:
            self._bytes += self._outgoing.to_partition(partition, command)
        elif depth + 1 <= self._machine.limits.chain_depth:
            self._local.append(Pending(command, depth + 1))
        else:
            self._too_deep = True
            self._local.append(Pending(command, 0))

    # -- setting aside -------------------------------------------------------------------------------------------

    def quarantine(self, command: Command, reason: str) -> None:
        """Set a command aside that could not be decided; whoever waits for it gets a rejection."""
        if self._unit is not None:
            self._machine.note_aside(self._unit)
        self._set_aside(encode_command(command), reason, command.id, command.stream)
        self._answers.unread(
            command, Code.UNDECIDABLE, f"be decided: {reason[:300]}", self._at[0] if self._at else None
        )

    def quarantine_broken(self, broken: BrokenCommand, offset: int, index: int) -> None:
        """Set a command aside that could not be read."""
        self._commands += 1
        self._plan.unit = log_unit(offset, index)
        known = read_envelope(broken.raw)
        self._at = (offset, index)
        self._set_aside(broken.raw, broken.reason, known.id, known.stream)
        self._at = None
        self._answers.unread(known, Code.INVALID, f"be read: {broken.reason[:300]}", offset)

    def _set_aside(self, data: bytes, reason: str, command_id: str, stream: str) -> None:
        offset, index = self._at or (None, None)
        self._bytes += self._outgoing.quarantine(
            Quarantined(
                partition=self._machine.partition,
                reason=reason[:MAX_REASON_LENGTH],
                offset=offset,
                index=index,
                at_ms=self._stamp_ms,
                command_id=command_id[:MAX_ID_BYTES] or None,
                stream=stream[:MAX_STREAM_BYTES] or None,
                data=data,
            )
        )

    # -- closing -------------------------------------------------------------------------------------------------

    def finish(self) -> Plan:
        """Hand out tasks, then write down what changed; what had no room goes into the checkpoint."""
        self._dispatch_queues()
        dispatch = [Pending(self._dispatch_command(stream), 0) for stream in self._to_dispatch]
        machine, checkpoint, plan = self._machine, self._machine.checkpoint, self._plan
        self._write_touched()
        self._write_keys()
        self._write_queue_parts()
        self._expire()
        for entry in self._outgoing.entries():
            plan.outbox.append(entry)
            plan.state[entry.key] = self._sized(entry.value)
        plan.forgotten = frozenset(machine.acknowledged)
        for key in plan.forgotten:
            plan.state[key] = None
        machine.pending.write([*self._local, *dispatch], checkpoint, plan.state)
        plan.commands = self._commands
        if not plan.empty or self.consumed:
            checkpoint.now_ms = self._stamp_ms
            plan.state[CHECKPOINT_KEY] = self._sized(encode_state(checkpoint))
        return plan

    def _write_touched(self) -> None:
        for stream, state in self._touched.items():
            if isinstance(state, Job):
                self._write_job(stream, state)
            else:
                self._plan.state[snapshot_key(stream)] = self._sized(encode_state(head(state)))
                self._machine.keep(stream, state)

    def _write_job(self, stream: str, job: Job) -> None:
        if job.ended_with_stub:
            self._write_stub(stream, job)
            return
        data = self._sized(encode_state(job))
        self._plan.state[snapshot_key(stream)] = data
        self._machine.keep_job(stream, job, data)

    def _write_stub(self, stream: str, job: Job) -> None:
        # An id may be made by a clock that is ahead: its job's stub has to outlive the time in which it is taken.
        made = minted_ms(split_stream(stream)[2]) or 0
        expires = max(self._stamp_ms, made) + self._machine.limits.dedup_window_ms
        stub = Stub(
            seq=job.created_seq,
            version=job.version,
            status=job.status.value,
            ended_at_ms=job.ended_at_ms or self._stamp_ms,
            expires_at_ms=expires,
            key_digest=job.key_digest,
            request_digest=job.request_digest,
            # The first one is as a rule that of the submission, which is told by its stream.
            recent=job.recent[-1:] if len(job.recent) > 1 or job.status is JobStatus.CANCELLED else [],
            submitted_events=submitted_events(job),
        )
        data = encode_state(stub)
        self._plan.state[snapshot_key(stream)] = None
        self._plan.state[stub_key(stream)] = data
        self._machine.forget_job(stream)
        self._kept.append((stub_key(stream), data, expires))
        if job.key_digest:
            key = idempotency_key(split_stream(stream)[1], job.key_digest)
            self._keys[key] = KeyEntry(
                stream, job.created_seq, job.request_digest, expires, submitted_events=stub.submitted_events
            )

    def _write_keys(self) -> None:
        """Keys of this batch, and the stubs with them, in one write."""
        for key, entry in self._keys.items():
            data = encode_state(entry)
            self._plan.state[key] = data
            self._kept.append((key, data, entry.expires_at_ms))
        if self._kept:
            self._machine.retained.put_many(self._kept)

    def _write_queue_parts(self) -> None:
        for stream, key in self._dirty_tasks:
            task = self._queue(stream).lanes.tasks.get(key)
            self._plan.state[queue_task_key(stream, key)] = None if task is None else self._sized(encode_state(task))
        for stream, incarnation in self._dirty_workers:
            worker = self._queue(stream).workers.get(incarnation)
            record = None if worker is None else self._sized(encode_state(worker))
            self._plan.state[queue_worker_key(stream, incarnation)] = record

    def _queue(self, stream: str) -> QueueState:
        state = self._touched[stream]
        assert isinstance(state, QueueState)
        return state

    def _expire(self) -> None:
        """Stubs and keys whose window is over become tombstones, some with each batch."""
        keys = self._machine.retained.expired(self._now, self._machine.limits.expiries)
        if keys:
            self._machine.retained.remove_many(keys)
        for key in keys:
            self._plan.state[key] = None
