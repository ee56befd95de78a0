"""Commands that change nothing: they are remembered like those that do, and questions cost no search."""

from __future__ import annotations

import msgspec
from memory_owner import NOW, WORKER, Decider, command, credits, submit
from memory_owner import job as new_job

from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as qc
from jobledger.domain.queue.state import Lanes, QueueTask
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.state_records import UNCHANGED
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

QUEUE = queue_stream("default", "default")
JOB = new_job("a")
WINDOW_MS = 60_000


def ask(one: Decider, stream: str, body: object, identity: str, now: int = NOW) -> Outcome:
    one.feed(command(stream, body, identity))
    one.settle(now)
    return one.outcomes[-1]


def cancelling() -> Decider:
    """A job that a worker runs has been asked to end."""
    one = Decider(limits=Limits(dedup_window_ms=WINDOW_MS))
    one.feed(credits(QUEUE, 1), submit(JOB))
    one.settle()
    assert not ask(one, JOB, jc.CancelJob(), "first").duplicate
    return one


def test_a_repeat_of_a_cancel_that_had_nothing_to_change_is_a_duplicate() -> None:
    """While the job lives, when it has ended, and from memory that is rebuilt: the first outcome, not another one."""
    one = cancelling()
    second = ask(one, JOB, jc.CancelJob(), "second")
    assert (second.status, second.duplicate) == (OutcomeStatus.ACCEPTED, False)
    one.feed(submit(new_job("b")))
    one.settle()
    again = ask(one, JOB, jc.CancelJob(), "second")
    assert (again.status, again.duplicate, again.seq) == (OutcomeStatus.ACCEPTED, True, second.seq)
    ended = jc.ReportCancelled(task="main", assignment=1, worker="w1", incarnation="i1", ended_at_ms=NOW)
    one.feed(command(JOB, ended, "ended", WORKER, reply=False))
    one.settle()
    assert one.machine.load(JOB) is None
    heir = Decider(limits=one.limits, state=dict(one.state))
    for owner in (one, heir):
        later = ask(owner, JOB, jc.CancelJob(), "second")
        assert (later.status, later.duplicate, later.seq) == (OutcomeStatus.ACCEPTED, True, second.seq)
    assert ask(heir, JOB, jc.CancelJob(), "third").status is OutcomeStatus.REJECTED


def test_twice_in_one_record_is_one_command() -> None:
    one = cancelling()
    one.feed(command(JOB, jc.CancelJob(), "x"), command(JOB, jc.CancelJob(), "x"))
    one.settle()
    assert [outcome.duplicate for outcome in one.outcomes[-2:]] == [False, True]


def test_it_is_forgotten_with_the_window() -> None:
    one = cancelling()
    ask(one, JOB, jc.CancelJob(), "second")
    assert [key for key in one.state if key.startswith(UNCHANGED)]
    ask(one, QUEUE, qc.UpdateQueue(description="x"), "later", NOW + WINDOW_MS + 1)
    one.settle(NOW + WINDOW_MS + 2)
    assert not [key for key in one.state if key.startswith(UNCHANGED)]
    assert not list(one.machine.retained.items())


def test_an_update_that_changes_nothing_is_remembered() -> None:
    one = Decider()
    ask(one, QUEUE, qc.CreateQueue(max_waiting_bytes=7), "create")
    first = ask(one, QUEUE, qc.UpdateQueue(max_waiting_bytes=7), "same")
    ask(one, QUEUE, qc.UpdateQueue(max_waiting_bytes=8), "other")
    again = ask(one, QUEUE, qc.UpdateQueue(max_waiting_bytes=7), "same")
    assert (again.duplicate, again.seq) == (True, first.seq)
    assert one.machine.streams["queue"][QUEUE].queue.max_waiting_bytes == 8


class Unsearchable(dict[str, QueueTask]):
    """Tasks of a queue that may be looked up, but not looked through."""

    def __iter__(self) -> object:  # type: ignore[override]
        raise AssertionError("a search through all tasks")

    values = items = keys = __iter__  # type: ignore[assignment]


def test_why_a_job_waits_is_looked_up() -> None:
    """However many others wait in its queue."""
    one = Decider()
    one.feed(*(submit(new_job(f"j{number}")) for number in range(50)))
    one.settle()
    lanes: Lanes = one.machine.streams["queue"][QUEUE].lanes
    lanes.tasks = Unsearchable(lanes.tasks)
    told = ask(one, QUEUE, qc.QueryQueue(job=new_job("j49")), "why")
    assert told.answer is not None
    assert msgspec.json.decode(told.answer.data)["why"] == "no worker serves handler 'work' on this queue"
    told = ask(one, QUEUE, qc.QueryQueue(job=new_job("absent")), "why not")
    assert told.answer is not None and msgspec.json.decode(told.answer.data)["why"] == "not in this queue"
