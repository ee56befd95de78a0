"""A repeated submission is told the position of the first one: who reads at it sees the job as it was told."""

from __future__ import annotations

from typing import Any

import pytest
from memory_owner import NOW, WORKER, Decider, command, job, submit

from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import JobStatus
from jobledger.processors.core.state_records import KeyEntry, Stub, decode_state, encode_state

STREAM = job("j1")


def told(one: Decider, identity: str, **given: Any) -> tuple[int, bool]:
    """Position and whether it is a duplicate."""
    one.feed(submit(STREAM, identity=identity, **given))
    one.settle()
    outcome = one.outcomes[-1]
    assert outcome.command_id == identity
    return outcome.seq, outcome.duplicate


@pytest.mark.parametrize("due_at_ms", [None, NOW + 60_000], ids=["due at once", "due later"])
@pytest.mark.parametrize("key", [None, "digest"], ids=["by command id", "by key"])
@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
def test_a_repeat_has_the_position_of_the_first(due_at_ms: int | None, key: str | None, ended: bool) -> None:
    one = Decider()
    one.feed(submit(job("before"), identity="before"))
    one.settle()
    given = {"due_at_ms": due_at_ms, "key_digest": key}
    first, _ = told(one, "c1", **given)
    assert first == one.machine.checkpoint.seq - (1 if due_at_ms is None else 0), "the queue's event is behind it"
    if ended:
        one.feed(command(STREAM, jc.CancelJob(), "cancel"))
        one.settle()
        assert one.outcomes[-1].status_after == (JobStatus.CANCELLED if due_at_ms else JobStatus.CANCELLING)
        one.feed(command(STREAM, jc.ReportCancelled(**{**REPORT, "ended_at_ms": NOW}), "report", WORKER, reply=False))
        one.settle()
        assert STREAM not in one.machine.streams["job"]
    again = "c2" if key else "c1"
    assert told(one, again, **given) == (first, True)
    one.machine = one.rebuilt()
    assert told(one, again, **given) == (first, True)


REPORT = {"task": "main", "assignment": 1, "worker": "w1", "incarnation": "i1"}


def test_what_an_earlier_release_wrote_is_told_as_it_told_it() -> None:
    """Stubs and keys that do not say how many events there were."""
    stub = Stub(seq=7, version=5, status="SUCCEEDED", ended_at_ms=NOW, expires_at_ms=NOW + 1, submitted_events=2)
    entry = KeyEntry("job:t:1", 7, "digest", NOW, submitted_events=2)
    for record in (stub, entry):
        data = encode_state(record).replace(b',"submitted_events":2', b"")
        assert decode_state(data).submitted_events == 1
