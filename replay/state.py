"""The `state` of a partition beside the fold of its events."""

from __future__ import annotations

import time
from typing import Any

from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain.aggregates import AGGREGATES, State, head, kind_of, mutate
from jobledger.domain.kind import Kind, Remains
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits
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
    except (ForeignStateError, UnreadableStateError) as error:
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
        kind = kind_of(stream)
        if record.status_after is not None:
            self._report.compare(self._where, f"status after seq {record.seq}", kind.status(state), record.status_after)
        if kind.submission is not None and isinstance(record.data, kind.submission.event):
            self._check_key(record)
        remains = None if kind.ending is None else kind.ending.remains(state)
        if remains is not None:
            self._check_stub(stream, state, remains, record.at_ms)
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

    def _check_key(self, record: EventRecord) -> None:
        event: Any = record.data
        if not event.key_digest:
            return
        key = idempotency_key(record.tenant, event.key_digest)
        data = self._machine.retained.get(key)
        if data is None:
            lives = self._machine.load(record.originator_id) is not None
            if lives or record.at_ms + self._window_ms > self._machine.checkpoint.now_ms:
                self._report.add(self._where, key.decode(), record.originator_id, None)
            return
        self._unexplained.discard(key)
        entry: KeyEntry = decode_state(data)
        if entry.seq <= record.seq:  # a later use of the key, after the window of this one, is its own
            expected = (record.originator_id, record.seq, event.request_digest)
            self._report.compare(self._where, key.decode(), expected, (entry.stream, entry.seq, entry.request_digest))

    def _check_stub(self, stream: str, state: Any, remains: Remains, at_ms: int) -> None:
        data = self._machine.retained.get(stub_key(stream))
        if data is None:
            if at_ms + self._window_ms > self._machine.checkpoint.now_ms:
                self._report.add(self._where, f"stub of {stream}", remains.status, None)
            return
        stub: Stub = decode_state(data)
        known = head(state)
        if stub.seq != known.created_seq:
            return  # that of another life of the stream, after the window of this one
        self._unexplained.discard(stub_key(stream))
        digests = (None, None) if kind_of(stream).submission is None else (state.key_digest, state.request_digest)
        expected = (known.version, remains.status, remains.ended_at_ms, *digests)
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
        by_kind: dict[str, dict[str, State]] = {name: {} for name in AGGREGATES}
        for stream, state in self._states.items():
            by_kind[kind_of(stream).name][stream] = state
        for name, kind in AGGREGATES.items():
            expected, found = by_kind[name], machine.streams[name]
            for stream in expected.keys() | found.keys():
                if stream not in self._broken:
                    self._compare(kind, stream, expected.get(stream), found.get(stream))
        for key in sorted(self._unexplained):
            self._report.add(where, key.decode(errors="replace"), None, self._machine.retained.get(key))

    def _compare(self, kind: Kind, stream: str, expected: State | None, found: Any) -> None:
        where = f"{self._where}, {kind.name}"
        if kind.packed:
            self._compare_packed(where, stream, None if expected is None else encode_state(expected.head), found)
            found = self._machine.load(stream) if kind.parts else None
        else:
            self._report.compare(where, stream, expected and expected.head, found and found.head)
        if expected is None or found is None:
            return
        for part in kind.parts:
            one, other = part.of(expected), part.of(found)
            for key in one.keys() | other.keys():
                what = f"{self._where}, {part.name.replace('_', ' ')}"
                self._report.compare(what, f"{stream} {key}", one.get(key), other.get(key))

    def _compare_packed(self, where: str, stream: str, expected: bytes | None, found: bytes | None) -> None:
        """As bytes, and where these differ as what they mean: another release may order the fields otherwise."""
        if expected is not None and found is not None and expected != found:
            self._report.compare(where, stream, decode_state(expected), decode_state(found))
        else:
            self._report.compare(where, stream, expected, found)
