"""One batch of decisions: commands in, events, state, outcomes and outbox entries out."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable

from jobledger.domain.aggregates import State, head, kind_of, mutate
from jobledger.domain.effects import Effect, FollowUp
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import partition_of, split_stream
from jobledger.domain.kind import Kind
from jobledger.domain.levels import not_enabled
from jobledger.domain.values import SYSTEM, Answer, Code, Rejection
from jobledger.processors.core.answers import Answers, read_envelope
from jobledger.processors.core.checkpoint import Pending
from jobledger.processors.core.memory import Memory
from jobledger.processors.core.outgoing import Outgoing
from jobledger.processors.core.plan import EventOut, Plan, Traced
from jobledger.processors.core.repeats import Repeats
from jobledger.processors.core.sizes import OversizeError, Sizes, bounded
from jobledger.processors.core.state_records import CHECKPOINT_KEY, encode_state
from jobledger.processors.core.state_writer import StateWriter
from jobledger.schemas.commands import BrokenCommand, Command, encode_command
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.schemas.limits import MAX_ID_BYTES, MAX_STREAM_BYTES
from jobledger.schemas.outcomes import Outcome
from jobledger.schemas.quarantine import MAX_REASON_LENGTH, Quarantined

#: Events of one decision. One that fans out further names a part and goes on by a command to itself.
MAX_EVENTS_PER_DECISION = 500
#: What a command that finds no room any more may add to a batch, so that timers and leases are never starved.
MAX_SQUEEZED_BYTES = 256 * 1024
#: Errors of the machine that this runs on: nobody's command is to blame for them.
ENVIRONMENT = (sqlite3.Error, OSError, MemoryError)
Decision = list[AnyEvent] | Rejection | Answer
_mapper = EventMapper()
_encode_event = _mapper.transcoder.encode


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


class Batch:
    """Collects the decisions of one transaction; see `Machine.decide`."""

    def __init__(self, memory: Memory, now: int, over_time: Callable[[], bool], max_commands: int) -> None:
        self._memory = memory
        self._now = now
        #: The time of events never runs backwards; see Memory.time_ms for when it is not `now`.
        self._stamp_ms = max(now, memory.checkpoint.now_ms)
        self._over_time = over_time
        self._max_commands = max_commands
        self._plan = Plan(now_ms=now, checkpoint=memory.checkpoint)
        self._outgoing = Outgoing(memory.partition, memory.checkpoint)
        self._local: deque[Pending] = deque()
        self._too_deep = False
        self._touched: dict[str, State] = {}
        self._to_settle: dict[str, None] = {}
        self._sizes = Sizes()
        self._answers = Answers(memory, self._plan, self._stamp_ms, self._touched)
        self._repeats = Repeats(memory, self._answers, self._stamp_ms, now)
        self._state = StateWriter(memory, self._plan, self._sizes, self._touched, self._stamp_ms)
        self._at: tuple[int, int] | None = None
        #: Source partition and number of the outbox record that is being taken, for its events.
        self.source: tuple[int | None, int | None] = (None, None)
        self._commands = 0
        #: What is being decided, by the name under which it would come again; None: what follows from something.
        self._unit: str | None = None
        self.consumed = False

    @property
    def full(self) -> bool:
        """Whether a bound of the batch is reached.

        What goes too deep ends the batch too: nothing that is decided later may overtake it.
        """
        limits = self._memory.limits
        return (
            self._commands >= self._max_commands
            or len(self._plan.events) + len(self._plan.outcomes) >= limits.records
            or self._sizes.bytes >= limits.bytes
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
        pending = self._memory.pending
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
        before = self._sizes.bytes
        self._begin(command, command.id, depth=0)
        return self._sizes.bytes - before < MAX_SQUEEZED_BYTES and len(self._local) < self._memory.limits.commands

    def _begin(self, command: Command, unit: str, depth: int, *, sent_here: bool = False) -> None:
        """Decide what came from outside of this batch: it can be told by `unit` when it fails."""
        aside = self._memory.aside
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

    def _settle(self) -> None:
        """What is decided once for a stream and batch, behind everything else: queues hand out their tasks."""
        while self._to_settle and not self.full:
            stream = next(iter(self._to_settle))
            del self._to_settle[stream]
            self._decide(self._settling(stream), depth=0)
            self._drain()

    def _settling(self, stream: str) -> Command:
        identity = f"dispatch/{self._memory.partition}/{self._memory.checkpoint.seq}/{stream}"
        settling = kind_of(stream).settling
        assert settling is not None
        return Command(id=identity, stream=stream, actor=SYSTEM, body=settling.command())

    def _decide(self, command: Command, depth: int, *, sent_here: bool = False) -> None:
        self._commands += 1
        stream = command.stream
        try:
            if sent_here and (belongs := partition_of(stream, self._memory.checkpoint.partitions)) != (
                self._memory.partition
            ):
                self.quarantine(command, f"Stream '{stream}' lives on partition {belongs}; send it there.")
                return
            kind = kind_of(stream)
            state = self.peek(stream)
            first = self._repeats.first_outcome(command, state)
            if first is not None:
                self._answers.tell(command, "DUPLICATE" if isinstance(first, Outcome) else "REJECTED", first)
                return
            decision = self._writable(kind.decide(stream, state, command.body, self._now))
            records = self._write_events(command, kind, state, decision) if isinstance(decision, list) else []
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
                self._record(command, kind, state, records, depth)
            elif command.body.remembered:
                self._repeats.remember_unchanged(command)
            self._answers.tell(command, "ACCEPTED", None)

    # -- events --------------------------------------------------------------------------------------------------

    def peek(self, stream: str) -> State | None:
        """The state of a stream as this batch sees it."""
        return self._answers.peek(stream)

    def _writable(self, decision: Decision) -> Decision:
        """The decision, or why its events are not written: the release before, which may take over, can't read them."""
        if isinstance(decision, list):
            level = self._memory.checkpoint.level
            for event in decision:
                if event.format_level > level:
                    return not_enabled(type(event), event.format_level)
        return decision

    def _write_events(
        self, command: Command, kind: Kind, state: State | None, events: list[AnyEvent]
    ) -> list[tuple[EventRecord, bytes]]:
        """The events of a decision as they will stand in the log. Nothing is changed yet: a decision whose events
        cannot be written is undone by not going on. Raises OversizeError."""
        if len(events) > MAX_EVENTS_PER_DECISION:
            raise OversizeError(f"A decision of {len(events)} events is over the bound of {MAX_EVENTS_PER_DECISION}.")
        written = []
        seq = self._memory.checkpoint.seq
        version = 0 if state is None else head(state).version
        tenant = split_stream(command.stream)[1]
        lineage, correlation_id, traceparent = kind.origin(state, command.body)
        offset, index = self._at or (None, None)
        source, number = self.source if self._at else (None, None)
        status = None if state is None else kind.status(state)
        for place, event in enumerate(events, 1):
            status = kind.status_after(status, event)
            record = EventRecord(
                id=f"{self._memory.partition}-{seq + place}",
                originator_id=command.stream,
                originator_version=version + place,
                seq=seq + place,
                tenant=tenant,
                at_ms=self._stamp_ms,
                command_id=command.id,
                actor=command.actor,
                data=event,
                causation_id=command.causation_id,
                correlation_id=command.correlation_id or correlation_id,
                traceparent=command.traceparent or traceparent,
                lineage=lineage,
                command_offset=offset,
                command_index=index,
                source=source,
                source_number=number,
                status_after=status,
            )
            written.append((record, bounded("event", _encode_event(record))))
        return written

    def _record(
        self, command: Command, kind: Kind, state: State | None, records: list[tuple[EventRecord, bytes]], depth: int
    ) -> None:
        stream, settling = command.stream, kind.settling
        key = stream.encode()
        source = f"/cells/{self._memory.checkpoint.cell}/tenants/{records[0][0].tenant}".encode()
        self._repeats.note_submission(records[0][0], kind.submission, len(records))
        for record, value in records:
            event, begins = record.data, state is None
            if (ends := kind.attempt_ends.get(type(event))) is not None:
                attempt = ends(state, event, command.body, record.sampled)
                if attempt is not None:
                    self._plan.traced.append(Traced(record, attempt, command.tracestate or ""))
            state = mutate(state, record)
            if begins and kind.parts:
                state = self._memory.begin(kind, stream, state)
            self._sizes.bytes += len(value)
            self._plan.events.append(EventOut(key, value, cloudevents_headers(record, source, command.tracestate)))
            self._plan.records.append(record)
            self._state.note_parts(stream, kind, event)
            if settling is not None and type(event) in settling.after:
                self._to_settle[stream] = None
            for effect in kind.react(state, event):
                self._follow(effect, record, depth)
        assert state is not None
        self._touched[stream] = state
        self._memory.checkpoint.seq += len(records)
        if kind.level is not None:
            self._memory.checkpoint.level = max(self._memory.checkpoint.level, kind.level(state))

    def _follow(self, effect: Effect, record: EventRecord, depth: int) -> None:
        if not isinstance(effect, FollowUp):
            self._sizes.bytes += self._outgoing.to_worker(effect.message)
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
        partition = partition_of(effect.stream, self._memory.checkpoint.partitions)
        if partition != self._memory.partition:
            self._sizes.bytes += self._outgoing.to_partition(partition, command)
        elif depth + 1 <= self._memory.limits.chain_depth:
            self._local.append(Pending(command, depth + 1))
        else:
            self._too_deep = True
            self._local.append(Pending(command, 0))

    # -- setting aside -------------------------------------------------------------------------------------------

    def quarantine(self, command: Command, reason: str) -> None:
        """Set a command aside that could not be decided; whoever waits for it gets a rejection."""
        if self._unit is not None:
            self._memory.note_aside(self._unit)
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
        self._sizes.bytes += self._outgoing.quarantine(
            Quarantined(
                partition=self._memory.partition,
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
        """Settle what is to be settled, then write down what changed; what had no room goes into the checkpoint."""
        self._settle()
        unsettled = [Pending(self._settling(stream), 0) for stream in self._to_settle]
        memory, checkpoint, plan = self._memory, self._memory.checkpoint, self._plan
        self._state.write(self._repeats, self._now)
        for entry in self._outgoing.entries():
            plan.outbox.append(entry)
            plan.state[entry.key] = self._sizes.record(entry.value)
        plan.forgotten = frozenset(memory.acknowledged)
        for key in plan.forgotten:
            plan.state[key] = None
        memory.pending.write([*self._local, *unsettled], checkpoint, plan.state)
        plan.commands, plan.states = self._commands, self._touched
        if not plan.empty or self.consumed:
            checkpoint.now_ms = self._stamp_ms
            plan.state[CHECKPOINT_KEY] = self._sizes.record(encode_state(checkpoint, checkpoint.level))
        return plan
