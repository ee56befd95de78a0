"""The `state` of a partition beside the fold of its events."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain.aggregates import State, mutate
from jobledger.domain.job_events import JobSubmitted
from jobledger.domain.job_state import Job
from jobledger.domain.queue_state import QueueState
from jobledger.processors.core.machine import Limits, Machine
from jobledger.processors.core.recovery import ForeignStateError, rebuild
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import (
    CHECKPOINT_KEY,
    UNCHANGED,
    KeyEntry,
    Stub,
    UnreadableStateError,
    decode_state,
    encode_state,
    idempotency_key,
    stub_key,
)
from jobledger.replay.log import CATCH_UP_SECONDS, Log
from jobledger.replay.report import Report, VerifyError
from jobledger.schemas.events import EventRecord


def read_machine(log: Log, partition: int, cell: str, partitions: int, at_least: int) -> Machine:
    """The machine that an owner would rebuild now; its checkpoint's seq is at least `at_least` when waiting helps.

    Raises VerifyError when the state is another cell's or another release's.
    """
    records: dict[bytes, bytes] = {}
    deadline = time.monotonic() + CATCH_UP_SECONDS
    for message in log.state(partition):
        if message is not None:
            key, value = message.key() or b"", message.value()
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value
        elif _seq(records) >= at_least or time.monotonic() > deadline:
            break
    try:
        return rebuild(partition, cell, partitions, records, Limits(), Retained())
    except (ForeignStateError, UnreadableStateError, msgspec.DecodeError) as error:
        raise VerifyError(f"The state of partition {partition} can't be read: {error}") from error


def _seq(records: dict[bytes, bytes]) -> int:
    data = records.get(CHECKPOINT_KEY)
    return 0 if data is None else int(decode_state(data).seq)


class StateFold:
    """Folds the events of one partition and holds them against the machine rebuilt from its state.

    Jobs that have ended are compared at once and forgotten, so memory grows with live jobs only.
    """

    def __init__(self, machine: Machine, report: Report, window_ms: int) -> None:
        self._machine = machine
        self._report = report
        self._window_ms = window_ms
        self._where = f"partition {machine.partition}, state"
        self._states: dict[str, State] = {}
        self._broken: set[str] = set()
        self._unexplained = {key for key, _ in machine.retained.items() if not key.startswith(UNCHANGED)}
        self._at_ms = 0
        self._command = (-1, -1)

    def fold(self, record: EventRecord) -> bool:
        """Take in the next event; False when it does not follow on its stream's last one."""
        stream = record.originator_id
        if stream in self._broken:
            return False
        try:
            state = mutate(self._states.get(stream), record)
        except (OriginatorVersionError, OriginatorIDError, KeyError, AttributeError) as error:
            self._report.add(self._where, f"{stream} at seq {record.seq}", "an event that follows", repr(error))
            self._broken.add(stream)
            return False
        if record.originator_version == 1:
            self._report.streams += 1
        self._check_order(record)
        self._states[stream] = state
        if isinstance(record.data, JobSubmitted) and record.data.key_digest:
            self._check_key(record, record.data)
        if isinstance(state, Job) and state.ended_with_stub:
            self._check_stub(stream, state, record.at_ms)
            del self._states[stream]
        return True

    def _check_order(self, record: EventRecord) -> None:
        """Neither time nor the place of the commands runs backwards."""
        if record.at_ms < self._at_ms:
            self._report.add(self._where, f"time at seq {record.seq}", f"at least {self._at_ms}", record.at_ms)
        self._at_ms = max(self._at_ms, record.at_ms)
        if record.command_offset is None:
            return
        at = record.command_offset, record.command_index or 0
        if at < self._command:
            self._report.add(self._where, f"command of seq {record.seq}", f"from {self._command} on", at)
        self._command = max(self._command, at)

    def _check_key(self, record: EventRecord, event: JobSubmitted) -> None:
        key = idempotency_key(record.tenant, event.key_digest or "")
        data = self._machine.retained.get(key)
        if data is None:
            job = self._machine.jobs.get(record.originator_id)
            if job is not None or record.at_ms + self._window_ms > self._machine.checkpoint.now_ms:
                self._report.add(self._where, key.decode(), record.originator_id, None)
            return
        self._unexplained.discard(key)
        entry: KeyEntry = decode_state(data)
        if entry.seq <= record.seq:  # a later use of the key, after the window of this one, is its own
            expected = (record.originator_id, record.seq, event.request_digest)
            self._report.compare(self._where, key.decode(), expected, (entry.stream, entry.seq, entry.request_digest))

    def _check_stub(self, stream: str, job: Job, at_ms: int) -> None:
        data = self._machine.retained.get(stub_key(stream))
        if data is None:
            if at_ms + self._window_ms > self._machine.checkpoint.now_ms:
                self._report.add(self._where, f"stub of {stream}", job.status.value, None)
            return
        stub: Stub = decode_state(data)
        if stub.seq != job.created_seq:
            return  # that of another life of the stream, after the window of this one
        self._unexplained.discard(stub_key(stream))
        expected = (job.version, job.status.value, job.ended_at_ms, job.key_digest, job.request_digest)
        found = (stub.version, stub.status, stub.ended_at_ms, stub.key_digest, stub.request_digest)
        self._report.compare(self._where, f"stub of {stream}", expected, found)

    # -- at the checkpoint ----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """All events up to the checkpoint's seq are folded: compare what lives."""
        machine, where = self._machine, self._where
        offset, index = self._command
        if (offset, index) >= (machine.checkpoint.offset, machine.checkpoint.index):
            self._report.add(where, "checkpoint", f"behind command {self._command}", machine.checkpoint.offset)
        if machine.checkpoint.now_ms < self._at_ms:
            self._report.add(where, "checkpoint's time", f"at least {self._at_ms}", machine.checkpoint.now_ms)
        live = {s: state for s, state in self._states.items() if s not in self._broken}
        jobs = {s: encode_state(state) for s, state in live.items() if isinstance(state, Job)}
        self._same_keys("job", jobs, machine.jobs)
        queues = {s: state for s, state in live.items() if isinstance(state, QueueState)}
        for stream in queues.keys() | machine.queues.keys():
            self._compare_queue(stream, queues.get(stream), machine.queues.get(stream))
        others = {s: state for s, state in live.items() if not isinstance(state, Job | QueueState)}
        self._same_keys("tenant", others, machine.tenants)
        for key in sorted(self._unexplained):
            self._report.add(where, key.decode(errors="replace"), None, self._machine.retained.get(key))

    def _same_keys(self, what: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
        for stream in expected.keys() | found.keys():
            if stream not in self._broken:
                self._report.compare(f"{self._where}, {what}", stream, expected.get(stream), found.get(stream))

    def _compare_queue(self, stream: str, expected: QueueState | None, found: QueueState | None) -> None:
        where = f"{self._where}, queue"
        if stream in self._broken:
            return
        if expected is None or found is None:
            self._report.add(where, stream, expected and expected.queue, found and found.queue)
            return
        self._report.compare(where, stream, expected.queue, found.queue)
        tasks, kept = expected.lanes.tasks, found.lanes.tasks
        for key in tasks.keys() | kept.keys():
            self._report.compare(f"{where} task", f"{stream} {key}", tasks.get(key), kept.get(key))
        for incarnation in expected.workers.keys() | found.workers.keys():
            one, other = expected.workers.get(incarnation), found.workers.get(incarnation)
            self._report.compare(f"{where} worker", f"{stream} {incarnation}", one, other)
