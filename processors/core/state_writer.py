"""What a batch has changed, as records of `state`."""

from __future__ import annotations

from typing import Any

from jobledger.domain.aggregates import State, head, kind_of
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import minted_ms, split_stream
from jobledger.domain.kind import Kind, Part, Remains
from jobledger.processors.core.memory import Memory
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.repeats import Repeats
from jobledger.processors.core.sizes import Sizes
from jobledger.processors.core.state_records import (
    KeyEntry,
    Stub,
    encode_state,
    idempotency_key,
    part_key,
    part_name,
    snapshot_key,
    stub_key,
)


class StateWriter:
    """Collects the streams that a batch has touched, and puts them into memory and into its plan."""

    def __init__(self, memory: Memory, plan: Plan, sizes: Sizes, touched: dict[str, State], stamp_ms: int) -> None:
        """`touched` holds the states as the batch sees them; others add to it."""
        self._memory = memory
        self._plan = plan
        self._sizes = sizes
        self._touched = touched
        self._stamp_ms = stamp_ms
        self._parts: dict[tuple[str, str, str], Part] = {}
        self._ended: set[str] = set()
        self._kept: list[tuple[bytes, bytes, int]] = []

    def note_parts(self, stream: str, kind: Kind, event: AnyEvent) -> None:
        """An event may have touched what is stored beside the snapshot."""
        for part in kind.parts:
            changed = part.changed.get(type(event))
            if changed is not None:
                for key in changed(event):
                    self._parts[part.letter, stream, key] = part

    def write(self, repeats: Repeats, now_ms: int) -> None:
        """Everything: streams, what is left of ended ones, keys, parts, and what has expired."""
        self._write_touched(repeats)
        self._write_keys(repeats)
        self._write_parts()
        self._memory.close_parts()
        self._expire(now_ms)

    def _write_touched(self, repeats: Repeats) -> None:
        for stream, state in self._touched.items():
            ending = kind_of(stream).ending
            remains = None if ending is None else ending.remains(state)
            if remains is not None:
                self._write_stub(stream, state, remains, repeats)
                continue
            data = self._sizes.record(encode_state(state.head, self._memory.checkpoint.level))
            self._plan.state[snapshot_key(stream)] = data
            self._memory.keep(stream, state, data)

    def _write_stub(self, stream: str, state: Any, remains: Remains, repeats: Repeats) -> None:
        # An id may be made by a clock that is ahead: its stub has to outlive the time in which it is taken.
        made = minted_ms(split_stream(stream)[2]) or 0
        expires = max(self._stamp_ms, made) + self._memory.limits.dedup_window_ms
        submission = kind_of(stream).submission
        known = head(state)
        stub = Stub(
            seq=known.created_seq,
            version=known.version,
            status=remains.status,
            ended_at_ms=remains.ended_at_ms or self._stamp_ms,
            expires_at_ms=expires,
            key_digest=None if submission is None else state.key_digest,
            request_digest=None if submission is None else state.request_digest,
            recent=remains.recent,
            submitted_events=1 if submission is None else submission.first_events(state),
        )
        data = encode_state(stub, self._memory.checkpoint.level)
        self._plan.state[snapshot_key(stream)] = None
        self._plan.state[stub_key(stream)] = data
        self._memory.forget(stream, state)
        self._ended.add(stream)
        self._kept.append((stub_key(stream), data, expires))
        if stub.key_digest:
            key = idempotency_key(split_stream(stream)[1], stub.key_digest)
            repeats.keys[key] = KeyEntry(
                stream, stub.seq, stub.request_digest, expires, submitted_events=stub.submitted_events
            )

    def _write_keys(self, repeats: Repeats) -> None:
        """Keys of this batch, and the stubs with them, in one write."""
        for key, entry in repeats.keys.items():
            data = encode_state(entry, self._memory.checkpoint.level)
            self._plan.state[key] = data
            self._kept.append((key, data, entry.expires_at_ms))
        if self._kept:
            self._memory.retained.put_many(self._kept)

    def _write_parts(self) -> None:
        for (letter, stream, key), part in self._parts.items():
            ended = stream in self._ended
            record = None if ended else part.of(self._touched[stream]).get(key)
            value = None if record is None else self._sizes.record(encode_state(record, self._memory.checkpoint.level))
            stored = part_key(letter, stream, key)
            self._plan.state[stored] = value
            self._memory.orphans.pop(stored, None)
            if part.packed and not ended:
                self._memory.parts[letter, stream].rest(key, value)
            if part.timer is not None:
                due = None if record is None else part.timer.next_ms(record)
                self._memory.timers.set(part_name(letter, stream, key), due)

    def _expire(self, now_ms: int) -> None:
        """Stubs and keys whose window is over become tombstones, some with each batch; so does what ended streams left
        of their parts."""
        orphans = self._memory.orphans
        for _ in range(min(len(orphans), self._memory.limits.expiries)):
            self._plan.state[orphans.popitem(last=False)[0]] = None
        keys = self._memory.retained.expired(now_ms, self._memory.limits.expiries)
        if keys:
            self._memory.retained.remove_many(keys)
        for key in keys:
            self._plan.state[key] = None
