"""Commands that come again: what they got the first time, and what is kept to know it."""

from __future__ import annotations

from typing import Any

from jobledger.domain.aggregates import State, head, kind_of
from jobledger.domain.identity import fault_of_new_job_id, split_stream
from jobledger.domain.kind import Submission
from jobledger.domain.values import ActorKind, Code, Rejection
from jobledger.processors.core.answers import Answers
from jobledger.processors.core.memory import Memory
from jobledger.processors.core.state_records import KeyEntry, decode_state, idempotency_key, unchanged_key
from jobledger.schemas.commands import Command
from jobledger.schemas.events import EventRecord
from jobledger.schemas.outcomes import Outcome, OutcomeStatus


class Repeats:
    """Finds first outcomes by streams, stubs and keys; `keys` are the entries that this batch has made."""

    def __init__(self, memory: Memory, answers: Answers, stamp_ms: int, now_ms: int) -> None:
        self._memory = memory
        self._answers = answers
        self._stamp_ms = stamp_ms
        self._now_ms = now_ms
        self.keys: dict[bytes, KeyEntry] = {}

    def first_outcome(self, command: Command, state: State | None) -> Outcome | Rejection | None:
        """What a repeated command got the first time; None when the command is new."""
        body = command.body
        kind = kind_of(command.stream)
        if kind.submission is not None and isinstance(body, kind.submission.command):
            return self._first_submission(command, kind.submission, state)
        if not body.remembered:
            return None
        stub = self._answers.stub(command.stream) if state is None else None
        recent = head(state).recent if state is not None else stub.recent if stub else []
        seq = self._memory.checkpoint.seq
        if command.id not in recent:
            unchanged = self._key(unchanged_key(command.stream, command.id))
            if unchanged is None:
                return kind.ending.reject(command.stream, stub.status, body) if stub and kind.ending else None
            seq = unchanged.seq
        elif state is not None and body.creating:
            seq = head(state).created_seq
        return self._answers.outcome(command, OutcomeStatus.ACCEPTED, seq=seq, duplicate=True)

    def _first_submission(self, command: Command, submission: Submission, state: Any) -> Outcome | Rejection | None:
        body: Any = command.body
        if body.key_digest is not None:
            entry = self._key(idempotency_key(split_stream(command.stream)[1], body.key_digest))
            if entry is not None:
                seq = entry.seq + entry.submitted_events - 1
                return self._same_request(command, body, entry.request_digest, entry.stream, seq, "idempotencyKey")
        if state is not None:
            seq = state.created_seq + submission.first_events(state) - 1
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
        fault = fault_of_new_job_id(job, self._stamp_ms, self._memory.limits.dedup_window_ms, by_system=by_system)
        return None if fault is None else Rejection(code=Code.INVALID, message=fault, field="commandId", value=job)

    def _same_request(
        self, command: Command, body: Any, digest: str | None, stream: str, seq: int, field: str
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
        if key in self.keys:
            return self.keys[key]
        data = self._memory.retained.get(key)
        if data is None:
            return None
        entry: KeyEntry = decode_state(data)
        return entry

    def remember_unchanged(self, command: Command) -> None:
        """A command of a user that was accepted and left no event: its repeat gets the same outcome, whatever became
        of the stream meanwhile."""
        if command.actor.kind is ActorKind.USER:
            expires = self._now_ms + self._memory.limits.dedup_window_ms
            entry = KeyEntry(command.stream, self._memory.checkpoint.seq, expires_at_ms=expires)
            self.keys[unchanged_key(command.stream, command.id)] = entry

    def note_submission(self, record: EventRecord, submission: Submission | None, events: int) -> None:
        """The key of a stream that begins with this event, of `events` that its submission leaves."""
        event: Any = record.data
        if submission is not None and isinstance(event, submission.event) and event.key_digest:
            entry = KeyEntry(record.originator_id, record.seq, event.request_digest, submitted_events=events)
            self.keys[idempotency_key(record.tenant, event.key_digest)] = entry
