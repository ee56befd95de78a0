from __future__ import annotations

from jobledger.domain.aggregates import evolve
from jobledger.domain.effects import FollowUp
from jobledger.domain.job import commands as c
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import events as e
from jobledger.domain.job.evolve import create as create_job
from jobledger.domain.job.state import Job, next_timer_ms
from jobledger.domain.queue import decide as queues
from jobledger.domain.queue.commands import DispatchTasks, EnqueueTask, SetCredits
from jobledger.domain.queue.evolve import create as create_queue
from jobledger.domain.values import Code, Lineage, Opaque, Rejection

STREAM = "job:default:0199"
QUEUE = "queue:default:default"
SAVED = Opaque('{"page": 7}')


def _running() -> Job:
    submit = c.SubmitJob(handler="index", queue="default", payload=Opaque("{}"))
    events = jobs.decide(STREAM, None, submit, 1000)
    assert isinstance(events, list)
    assert isinstance(events[0], e.JobSubmitted)
    state = create_job(STREAM, events[0], Lineage())
    evolve(state, events[1])
    return state


def _checkpoint(assignment: int = 1, data: Opaque = SAVED) -> c.ReportCheckpoint:
    return c.ReportCheckpoint(
        task="main",
        assignment=assignment,
        worker="w",
        incarnation="i",
        assigned_at_ms=1000,
        started_at_ms=1001,
        saved_at_ms=1005,
        checkpoint=data,
    )


def _apply(state: Job, command: c.JobCommand, now: int) -> list[e.JobEvent]:
    events = jobs.decide(STREAM, state, command, now)
    assert isinstance(events, list), events
    for event in events:
        evolve(state, event)
    return events


def test_checkpoint_travels_to_the_next_attempt() -> None:
    """What a failed attempt saved stands in the hand-out of the next one, over the queue to the worker's message."""
    state = _running()
    kinds = [type(event) for event in _apply(state, _checkpoint(), 1005)]
    assert kinds == [e.TaskStarted, e.TaskCheckpointSaved]
    lost = c.AttemptLost(task="main", assignment=1, worker="w", incarnation="i")
    _apply(state, lost, 2000)
    due = next_timer_ms(state)
    assert due is not None
    (ready,) = _apply(state, c.MarkDue(task="main", due_at_ms=due), due)
    (effect,) = jobs.react(state, ready)
    assert isinstance(effect, FollowUp)
    assert isinstance(effect.body, EnqueueTask)
    assert effect.body.checkpoint == SAVED
    assert _run_message(effect.body).checkpoint == SAVED


def _run_message(enqueue: EnqueueTask) -> queues.RunTask:
    credits = SetCredits(worker="w", incarnation="i", pool="default", credits=1, handlers=["index"])
    events = queues.decide(QUEUE, None, credits, 0)
    assert isinstance(events, list)
    assert isinstance(events[0], queues.e.QueueCreated)
    state = create_queue(QUEUE, events[0])
    for event in events[1:]:
        evolve(state, event)
    for command in (enqueue, DispatchTasks()):
        decided = queues.decide(QUEUE, state, command, 5000)
        assert isinstance(decided, list)
        for event in decided:
            evolve(state, event)
            effects = queues.react(state, event)
    (effect,) = effects
    assert not isinstance(effect, FollowUp)
    assert isinstance(effect.message, queues.RunTask)
    return effect.message


def test_stale_or_oversized_checkpoint_changes_nothing() -> None:
    """A checkpoint of an older assignment, or above 64 KiB, is rejected with the field that was wrong."""
    state = _running()
    stale = jobs.decide(STREAM, state, _checkpoint(assignment=9), 1005)
    assert isinstance(stale, Rejection)
    assert stale.code is Code.STALE_ASSIGNMENT
    large = jobs.decide(STREAM, state, _checkpoint(data=Opaque('"' + "ä" * 33_000 + '"')), 1005)
    assert isinstance(large, Rejection)
    assert (large.code, large.field) == (Code.INVALID, "checkpoint")
