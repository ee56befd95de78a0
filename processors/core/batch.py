"""One batch of decisions: commands in, events, state, outcomes and outbox entries out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from jobledger.domain.aggregates import AGGREGATES, State, head, mutate
from jobledger.domain.commands import CREATING, REMEMBERED
from jobledger.domain.effects import Effect, FollowUp
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import minted_ms, partition_of, split_stream
from jobledger.domain.job_commands import SubmitJob
from jobledger.domain.job_events import JobSubmitted
from jobledger.domain.job_state import Job, JobStatus
from jobledger.domain.queue import DISPATCH_AFTER
from jobledger.domain.queue_commands import DispatchTasks
from jobledger.domain.queue_events import CreditsSet, QueueTaskEvent, TaskAssigned, WorkerLost, WorkerRemoved
from jobledger.domain.queue_state import QueueState, task_key
from jobledger.domain.values import SYSTEM, Answer, Code, Lineage, Rejection
from jobledger.processors.core.checkpoint import Pending
from jobledger.processors.core.outgoing import Outgoing
from jobledger.processors.core.plan import Decided, EventOut, Plan
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
)
from jobledger.schemas.commands import BrokenCommand, Command, encode_command
from jobledger.schemas.decoding import decoder
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

if TYPE_CHECKING:
    from jobledger.processors.core.machine import Machine

MAX_CHAIN_DEPTH = 16
_mapper = EventMapper()
_encode_event = _mapper.transcoder.encode


class OversizeError(ValueError):
    """A record of a decision is larger than Kafka takes; nothing of the batch has been produced."""


class _Envelope(msgspec.Struct):
    """What can be told of a broken command."""

    id: str = ""
    stream: str = ""
    reply: bool = False


_decode_envelope = decoder(_Envelope)


class Batch:
    """Collects the decisions of one transaction; see `Machine.decide`."""

    def __init__(self, machine: Machine, now: int, over_time: Callable[[], bool]) -> None:
        self._machine = machine
        self._now = now
        #: The time of events never runs backwards; see Machine.time_ms for when it is not `now`.
        self._stamp_ms = max(now, machine.checkpoint.now_ms)
        self._over_time = over_time
        self._plan = Plan(now_ms=now, checkpoint=machine.checkpoint)
        self._outgoing = Outgoing(machine.partition, machine.checkpoint)
        self._local: deque[Pending] = deque()
        self._touched: dict[str, State] = {}
        self._dirty_tasks: dict[tuple[str, str], None] = {}
        self._dirty_workers: dict[tuple[str, str], None] = {}
        self._to_dispatch: dict[str, None] = {}
        self._keys: dict[bytes, KeyEntry] = {}
        self._at: tuple[int, int] | None = None
        #: Source partition and number of the outbox record that is being taken, for its events.
        self.source: tuple[int | None, int | None] = (None, None)
        self._kept: list[tuple[bytes, bytes, int]] = []
        self._commands = 0
        self._bytes = 0
        self.consumed = False

    @property
    def full(self) -> bool:
        """Whether a bound of the batch is reached."""
        limits = self._machine.limits
        return (
            self._commands >= limits.commands
            or len(self._plan.events) + len(self._plan.outcomes) >= limits.records
            or self._bytes >= limits.bytes
            or (self._commands > 0 and self._over_time())
        )

    # -- running commands ----------------------------------------------------------------------------------------

    def resume(self, pending: list[Pending]) -> None:
        """Run first what the last batch had no room for."""
        self._local.extend(pending)
        self._drain()

    def run(self, command: Command, offset: int | None = None, index: int | None = None) -> None:
        """Decide a command and, in turn, what follows from it on this partition."""
        self._at = None if offset is None or index is None else (offset, index)
        partition = partition_of(command.stream, self._machine.checkpoint.partitions)
        if partition == self._machine.partition:
            self._decide(command, depth=0)
        else:
            self._commands += 1
            self.quarantine(command, f"Stream '{command.stream}' lives on partition {partition}; send it there.")
        self._at = None
        self._drain()

    def _drain(self) -> None:
        while self._local and not self.full:
            item = self._local.popleft()
            self._decide(item.command, item.depth)

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

    def _decide(self, command: Command, depth: int) -> None:
        self._commands += 1
        stream = command.stream
        try:
            kind = stream.partition(":")[0]
            state = self.peek(stream)
            first = self._first_outcome(command, state)
            if first is not None:
                self._answer(command, "DUPLICATE" if isinstance(first, Outcome) else "REJECTED", first)
                return
            decision = AGGREGATES[kind].decide(stream, state, command.body, self._now)
        except Exception as error:  # noqa: BLE001 - one bad command must not stop the others: it is quarantined
            self.quarantine(command, f"{type(error).__name__}: {error}")
            return
        if isinstance(decision, Rejection):
            self._answer(command, "REJECTED", decision)
        elif isinstance(decision, Answer):
            self._answer(command, "QUERY", decision)
        else:
            self._record(command, state, decision, depth)
            self._answer(command, "ACCEPTED", None)

    def _first_outcome(self, command: Command, state: State | None) -> Outcome | Rejection | None:
        """What a repeated command got the first time; None when the command is new."""
        body = command.body
        if isinstance(body, SubmitJob):
            return self._first_submission(command, body, state)
        if not isinstance(body, REMEMBERED):
            return None
        if state is not None:
            recent = head(state).recent
        else:
            stub = self._stub(command.stream)
            recent = stub.recent if stub else []
        if command.id not in recent:
            return None
        seq = self._machine.checkpoint.seq
        if state is not None and isinstance(body, CREATING):
            seq = head(state).created_seq
        return self._outcome(command, OutcomeStatus.ACCEPTED, seq=seq, duplicate=True)

    def _first_submission(self, command: Command, body: SubmitJob, state: State | None) -> Outcome | Rejection | None:
        if body.key_digest is not None:
            entry = self._key(idempotency_key(split_stream(command.stream)[1], body.key_digest))
            if entry is not None:
                return self._same_request(
                    command, body, entry.request_digest, entry.stream, entry.seq, "idempotencyKey"
                )
        if isinstance(state, Job):
            return self._same_request(
                command, body, state.request_digest, command.stream, state.created_seq, "commandId"
            )
        stub = self._stub(command.stream)
        if stub is None:
            return self._too_old(command)
        return self._same_request(command, body, stub.request_digest, command.stream, stub.seq, "commandId")

    def _too_old(self, command: Command) -> Rejection | None:
        """An id that was made longer ago than stubs are kept: its job may have been and gone, and nothing tells.

        A stream must not begin twice: its versions would start over, which no reader can follow.
        """
        job = split_stream(command.stream)[2]
        minted, window_ms = minted_ms(job), self._machine.limits.dedup_window_ms
        if minted is None or minted + window_ms >= self._now:
            return None
        return Rejection(
            code=Code.INVALID,
            message=f"Expected an id made within the last {window_ms // 1000} s, as long as repeats are recognised, "
            f"but '{job}' is older by the time in it; look whether that job exists, and if not use a new id.",
            field="commandId",
            value=job,
        )

    def _same_request(
        self, command: Command, body: SubmitJob, digest: str | None, stream: str, seq: int, field: str
    ) -> Outcome | Rejection:
        if digest and body.request_digest and digest != body.request_digest:
            return Rejection(
                code=Code.IDEMPOTENCY_KEY_REUSED,
                message=f"This {field} stands for another request already (job '{split_stream(stream)[2]}'); "
                f"use a new one, or send the same request again.",
                field=field,
                value=split_stream(stream)[2],
            )
        return self._outcome(command, OutcomeStatus.ACCEPTED, seq=seq, stream=stream, duplicate=True)

    def _stub(self, stream: str) -> Stub | None:
        """What is left of an ended stream."""
        data = self._machine.retained.get(stub_key(stream))
        if data is None:
            return None
        stub: Stub = decode_state(data)
        return stub

    def _key(self, key: bytes) -> KeyEntry | None:
        if key in self._keys:
            return self._keys[key]
        data = self._machine.retained.get(key)
        if data is None:
            return None
        entry: KeyEntry = decode_state(data)
        return entry

    # -- events --------------------------------------------------------------------------------------------------

    def peek(self, stream: str) -> State | None:
        """The state of a stream as this batch sees it."""
        state = self._touched.get(stream)
        return self._machine.load(stream) if state is None else state

    def _record(self, command: Command, state: State | None, events: list[AnyEvent], depth: int) -> None:
        kind = command.stream.partition(":")[0]
        for event in events:
            record = self._envelope(command, state, event)
            state = mutate(state, record)
            self._touched[command.stream] = state
            self._produce(record)
            if isinstance(event, JobSubmitted) and event.key_digest:
                key = idempotency_key(record.tenant, event.key_digest)
                self._keys[key] = KeyEntry(command.stream, record.seq, event.request_digest)
            if isinstance(state, QueueState):
                self._note_queue(command.stream, event)
            for effect in AGGREGATES[kind].react(state, event):
                self._follow(effect, record, depth)

    def _envelope(self, command: Command, state: State | None, event: AnyEvent) -> EventRecord:
        checkpoint = self._machine.checkpoint
        checkpoint.seq += 1
        stream = command.stream
        job = state if isinstance(state, Job) else None
        lineage = job.lineage if job else command.body.lineage if isinstance(command.body, SubmitJob) else Lineage()
        offset, index = self._at or (None, None)
        source, number = self.source if self._at else (None, None)
        return EventRecord(
            id=f"{self._machine.partition}-{checkpoint.seq}",
            originator_id=stream,
            originator_version=1 if state is None else head(state).version + 1,
            seq=checkpoint.seq,
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

    def _produce(self, record: EventRecord) -> None:
        value = self._sized(_encode_event(record))
        source = f"/cells/{self._machine.checkpoint.cell}/tenants/{record.tenant}".encode()
        self._plan.events.append(EventOut(record.originator_id.encode(), value, cloudevents_headers(record, source)))
        self._plan.records.append(record)

    def _sized(self, value: bytes) -> bytes:
        if len(value) > MAX_MESSAGE_BYTES - 4096:
            raise OversizeError(f"A record of {len(value)} bytes is over the bound of {MAX_MESSAGE_BYTES}.")
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
        elif depth + 1 <= MAX_CHAIN_DEPTH:
            self._local.append(Pending(command, depth + 1))
        else:
            self._outgoing.later.append(Pending(command, 0))

    # -- outcomes ------------------------------------------------------------------------------------------------

    def _answer(self, command: Command, result: str, what: Outcome | Rejection | Answer | None) -> None:
        self._plan.decided.append(Decided(command, result, None if isinstance(what, Outcome) else what))
        if not command.reply:
            return
        if isinstance(what, Outcome):
            outcome = what
        elif isinstance(what, Rejection):
            outcome = self._outcome(command, OutcomeStatus.REJECTED, rejection=what)
        else:
            outcome = self._outcome(command, OutcomeStatus.ACCEPTED, answer=what)
        self._plan.outcomes.append(outcome)

    def _outcome(
        self,
        command: Command,
        status: OutcomeStatus,
        *,
        seq: int | None = None,
        stream: str | None = None,
        duplicate: bool = False,
        rejection: Rejection | None = None,
        answer: Answer | None = None,
    ) -> Outcome:
        state = self.peek(stream or command.stream)
        stub = self._stub(stream or command.stream) if duplicate and state is None else None
        version = head(state).version if state is not None else stub.version if stub else 0
        status_after = state.status.value if isinstance(state, Job) else stub.status if stub else None
        return Outcome(
            command_id=command.id,
            stream=stream or command.stream,
            status=status,
            partition=self._machine.partition,
            seq=self._machine.checkpoint.seq if seq is None else seq,
            at_ms=self._stamp_ms,
            version=version,
            duplicate=duplicate,
            status_after=status_after,
            rejection=rejection,
            answer=answer.data if answer else None,
        )

    def quarantine(self, command: Command, reason: str) -> None:
        """Set a command aside that could not be decided; whoever waits for it gets a rejection."""
        self._outgoing.quarantine(encode_command(command), reason)
        rejection = Rejection(code=Code.UNDECIDABLE, message=f"The command could not be decided: {reason[:300]}")
        self._plan.decided.append(Decided(command, "QUARANTINED", rejection))
        if command.reply:
            self._plan.outcomes.append(self._outcome(command, OutcomeStatus.REJECTED, rejection=rejection))

    def quarantine_broken(self, broken: BrokenCommand) -> None:
        """Set a command aside that could not be read."""
        self._commands += 1
        self._outgoing.quarantine(broken.raw, broken.reason)
        rejection = Rejection(code=Code.INVALID, message=f"The command could not be read: {broken.reason[:300]}")
        self._plan.decided.append(Decided(None, "QUARANTINED", rejection))
        try:
            known = _decode_envelope(broken.raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if known.reply and known.id:
            checkpoint = self._machine.checkpoint
            self._plan.outcomes.append(
                Outcome(
                    command_id=known.id,
                    stream=known.stream,
                    status=OutcomeStatus.REJECTED,
                    partition=self._machine.partition,
                    seq=checkpoint.seq,
                    at_ms=self._stamp_ms,
                    rejection=rejection,
                )
            )

    # -- closing -------------------------------------------------------------------------------------------------

    def finish(self) -> Plan:
        """Hand out tasks, then write down what changed; what had no room goes into the checkpoint."""
        self._dispatch_queues()
        later = [Pending(self._dispatch_command(stream), 0) for stream in self._to_dispatch]
        checkpoint = self._machine.checkpoint
        checkpoint.pending = [*self._local, *self._outgoing.later, *later]
        self._write_touched()
        self._write_keys()
        self._write_queue_parts()
        self._expire()
        for entry in self._outgoing.entries():
            self._plan.outbox.append(entry)
            self._plan.state[entry.key] = entry.value
        self._plan.forgotten = frozenset(self._machine.acknowledged)
        for key in self._plan.forgotten:
            self._plan.state[key] = None
        if not self._plan.empty or self.consumed:
            checkpoint.now_ms = self._stamp_ms
            self._plan.state[CHECKPOINT_KEY] = encode_state(checkpoint)
        return self._plan

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
        expires = self._stamp_ms + self._machine.limits.dedup_window_ms
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
        )
        data = encode_state(stub)
        self._plan.state[snapshot_key(stream)] = None
        self._plan.state[stub_key(stream)] = data
        self._machine.forget_job(stream)
        self._kept.append((stub_key(stream), data, expires))
        if job.key_digest:
            key = idempotency_key(split_stream(stream)[1], job.key_digest)
            self._keys[key] = KeyEntry(stream, job.created_seq, job.request_digest, expires)

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
            record = None if worker is None else encode_state(worker)
            self._plan.state[queue_worker_key(stream, incarnation)] = record

    def _queue(self, stream: str) -> QueueState:
        state = self._touched[stream]
        assert isinstance(state, QueueState)
        return state

    def _expire(self) -> None:
        """Stubs and keys whose window is over become tombstones, some with each batch."""
        keys = self._machine.retained.expired(self._now, self._machine.limits.expiries)
        self._machine.retained.remove_many(keys)
        for key in keys:
            self._plan.state[key] = None
