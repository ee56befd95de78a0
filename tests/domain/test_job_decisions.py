"""Every command of a job in every status that matters: what it comes to, or why it is rejected."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobledger.domain.effects import FollowUp
from jobledger.domain.identity import execution_id
from jobledger.domain.job import commands as c
from jobledger.domain.job import events as e
from jobledger.domain.job.retry import MAX_DISPATCHES_WITHOUT_START
from jobledger.domain.job.state import Task
from jobledger.domain.queue import commands as q
from jobledger.domain.values import Code, Opaque, RetryPolicy

NOW = 1_000_000
STREAM = "job:default:0199"
QUEUE = "queue:default:default"
EXECUTION = execution_id(STREAM, "main", 1)
PAYLOAD = Opaque('{"n": 1}')
RETRY = RetryPolicy(max_attempts=2, initial_seconds=1.0, jitter_ratio=0.0)
OF: dict[str, Any] = {"task": "main", "execution_id": EXECUTION}
WHO: dict[str, Any] = {"worker": "w", "incarnation": "w.1"}
TIMES: dict[str, Any] = {"assigned_at_ms": 10, "started_at_ms": 20}


def submitted(due: int = NOW) -> e.JobSubmitted:
    return e.JobSubmitted(
        handler="work", queue="default", priority=3, payload=PAYLOAD, submitted_at_ms=NOW, due_at_ms=due, retry=RETRY
    )


def ready(assignment: int = 1, attempt: int = 1, cause: e.ReadyCause = e.ReadyCause.DUE, at: int = NOW) -> e.TaskReady:
    return e.TaskReady(**OF, attempt=attempt, assignment=assignment, ready_at_ms=at, due_at_ms=NOW, cause=cause)


def started(assignment: int = 1, attempt: int = 1, *, timeout_at: int | None = None) -> e.TaskStarted:
    return e.TaskStarted(**OF, **WHO, **TIMES, attempt=attempt, assignment=assignment, timeout_at_ms=timeout_at)


def failed(assignment: int = 1, attempt: int = 1, retry_at: int | None = NOW + 1000) -> e.TaskFailed:
    return e.TaskFailed(
        **OF,
        attempt=attempt,
        assignment=assignment,
        worker="w",
        started_at_ms=20,
        ended_at_ms=30,
        kind=c.FailureKind.FAILED,
        error_type="ValueError",
        error=Opaque('"no"'),
        retry_at_ms=retry_at,
    )


def succeeded() -> e.TaskSucceeded:
    return e.TaskSucceeded(**OF, attempt=1, assignment=1, worker="w", started_at_ms=20, ended_at_ms=30)


def lost(
    before_start: bool, retry_at: int | None = None, attempt: int = 1, assignment: int = 1, *, crashed: bool = False
) -> e.TaskLost:
    return e.TaskLost(
        **OF,
        attempt=attempt,
        assignment=assignment,
        worker="w",
        lost_at_ms=NOW,
        before_start=before_start,
        retry_at_ms=retry_at,
        crashed=crashed,
    )


def returned(assignment: int = 1) -> e.TaskReturned:
    return e.TaskReturned(**OF, attempt=1, assignment=assignment, worker="w", returned_at_ms=NOW, reason="stopping")


def stopped(worker: str = "w") -> e.TaskCancelled:
    return e.TaskCancelled(**OF, attempt=1, assignment=1, worker=worker, ended_at_ms=NOW)


DAY_MS = 86_400_000
LIMIT_MS = NOW + DAY_MS + 30_000
REQUESTED = e.JobCancelRequested(requested_at_ms=NOW, timeout_at_ms=LIMIT_MS)
REQUESTED_RUNNING = e.JobCancelRequested(requested_at_ms=NOW)
CANCELLED = e.JobCancelled(ended_at_ms=NOW)
SUCCEEDED = e.JobSucceeded(ended_at_ms=NOW)


def dead(cause: e.DeadLetterCause = e.DeadLetterCause.FAILED, attempts: int = 2) -> e.JobDeadLettered:
    return e.JobDeadLettered(ended_at_ms=NOW, cause=cause, attempts=attempts)


SCHEDULED_JOB = [submitted(NOW + 5000)]
QUEUED = [submitted(), ready()]
LIMITED = started(timeout_at=NOW + DAY_MS + 30_000)
RUNNING = [*QUEUED, LIMITED]
RETRYING = [*RUNNING, failed()]
LAST_ATTEMPT = [*RETRYING, ready(2, 2, e.ReadyCause.RETRY), started(2, 2, timeout_at=NOW + DAY_MS + 30_000)]
LAST_QUEUED = LAST_ATTEMPT[:-1]
CANCELLING = [*QUEUED, REQUESTED]
CANCELLING_RUNNING = [*RUNNING, REQUESTED_RUNNING]
DONE = [*RUNNING, succeeded(), SUCCEEDED]
DEAD = [*LAST_ATTEMPT, failed(2, 2, None), dead()]
GONE = [*SCHEDULED_JOB, CANCELLED]
SECOND_RUN = execution_id(STREAM, "main", 2)
REDRIVEN = e.JobRedriven(redriven_at_ms=NOW, run=2, reason=Opaque('"mended"'))
READY_AGAIN = msgspec.structs.replace(ready(3, 1, e.ReadyCause.REDRIVEN), execution_id=SECOND_RUN)
DISCARDED = e.JobDiscarded(discarded_at_ms=NOW, reason=Opaque('"obsolete"'))
GIVING_UP = [
    msgspec.structs.replace(submitted(), retry=msgspec.structs.replace(RETRY, give_up_on=("CardDeclined",))),
    *RUNNING[1:],
]


def again(event: Any) -> Any:
    """The same event in the job's second run."""
    return msgspec.structs.replace(event, execution_id=SECOND_RUN)


OFTEN_RETURNED = [
    submitted(),
    *(
        event
        for n in range(1, MAX_DISPATCHES_WITHOUT_START)
        for event in (ready(n, 1, e.ReadyCause.DUE if n == 1 else e.ReadyCause.RETURNED), returned(n))
    ),
    ready(MAX_DISPATCHES_WITHOUT_START, 1, e.ReadyCause.RETURNED),
]

SUBMIT = c.SubmitJob(handler="work", queue="default", payload=PAYLOAD, retry=RETRY)
REPORT: dict[str, Any] = {"task": "main", "assignment": 1, **WHO}
START = c.ReportStarted(**REPORT, **TIMES)
SUCCESS = c.ReportSucceeded(**REPORT, **TIMES, ended_at_ms=30)
CHECKPOINT = c.ReportCheckpoint(**REPORT, **TIMES, saved_at_ms=25, checkpoint=Opaque("7"))
CANCEL_REPORT = c.ReportCancelled(**REPORT, ended_at_ms=30)
RETURN = c.ReportReturned(**REPORT, reason="stopping")
LOST = c.AttemptLost(task="main", assignment=1, **WHO)
CRASHED = c.ReportCrashed(**REPORT, **TIMES)
WITHDRAWN = c.TaskWithdrawn(task="main", assignment=1)


def fail(assignment: int = 1, *, retryable: bool = True, kind: c.FailureKind = c.FailureKind.FAILED) -> c.ReportFailed:
    return c.ReportFailed(
        task="main",
        assignment=assignment,
        **WHO,
        **TIMES,
        ended_at_ms=30,
        kind=kind,
        error_type="ValueError",
        error=Opaque('"no"'),
        retryable=retryable,
    )


SAVED = e.TaskCheckpointSaved(**OF, attempt=1, assignment=1, worker="w", saved_at_ms=25, checkpoint=Opaque("7"))

ACCEPTED: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "submit now": ([], SUBMIT, QUEUED),
    "submit for a time in the past runs now": (
        [],
        c.SubmitJob(handler="work", queue="default", payload=PAYLOAD, retry=RETRY, due_at_ms=5),
        QUEUED,
    ),
    "submit for later": (
        [],
        c.SubmitJob(handler="work", queue="default", payload=PAYLOAD, retry=RETRY, due_at_ms=NOW + 5000),
        SCHEDULED_JOB,
    ),
    "cancel before it is due": (SCHEDULED_JOB, c.CancelJob(), [CANCELLED]),
    "cancel between two attempts": (RETRYING, c.CancelJob(), [CANCELLED]),
    "cancel in the queue asks the queue": (QUEUED, c.CancelJob(), [REQUESTED]),
    "cancel while it runs asks the queue": (RUNNING, c.CancelJob(), [REQUESTED_RUNNING]),
    "cancel twice changes nothing": (CANCELLING, c.CancelJob(), []),
    "start": (QUEUED, START, [LIMITED]),
    "start told twice changes nothing": (RUNNING, START, []),
    "start while it is being cancelled": (CANCELLING, START, [msgspec.structs.replace(LIMITED, cancelling=True)]),
    "success": (RUNNING, SUCCESS, [succeeded(), SUCCEEDED]),
    "success of a short task tells its start": (QUEUED, SUCCESS, [started(), succeeded(), SUCCEEDED]),
    "success faster than the cancel": (CANCELLING_RUNNING, SUCCESS, [succeeded(), SUCCEEDED]),
    "checkpoint": (RUNNING, CHECKPOINT, [SAVED]),
    "checkpoint of 64 KiB": (
        RUNNING,
        msgspec.structs.replace(CHECKPOINT, checkpoint=Opaque("ä" * 32_768)),
        [msgspec.structs.replace(SAVED, checkpoint=Opaque("ä" * 32_768))],
    ),
    "checkpoint tells the start": (QUEUED, CHECKPOINT, [LIMITED, SAVED]),
    "failure with attempts left": (RUNNING, fail(), [failed()]),
    "failure of the last attempt": (LAST_ATTEMPT, fail(2), [failed(2, 2, None), dead()]),
    "failure that no attempt can mend": (RUNNING, fail(retryable=False), [failed(retry_at=None), dead(attempts=1)]),
    "failure of a short task tells its start": (QUEUED, fail(), [started(), failed()]),
    "failure while it is being cancelled": (CANCELLING_RUNNING, fail(), [failed(retry_at=None), CANCELLED]),
    "worker stopped it": (CANCELLING_RUNNING, CANCEL_REPORT, [stopped(), CANCELLED]),
    "worker never started it": (CANCELLING, CANCEL_REPORT, [stopped(), CANCELLED]),
    "queue withdrew it": (CANCELLING, WITHDRAWN, [stopped(""), CANCELLED]),
    "returned unstarted": (QUEUED, RETURN, [returned(), ready(2, 1, e.ReadyCause.RETURNED)]),
    "returned while it is being cancelled": (CANCELLING, RETURN, [returned(), CANCELLED]),
    "returned too often": (
        OFTEN_RETURNED,
        c.ReportReturned(task="main", assignment=MAX_DISPATCHES_WITHOUT_START, **WHO, reason="stopping"),
        [returned(MAX_DISPATCHES_WITHOUT_START), dead(e.DeadLetterCause.DISPATCH_FAILED, 1)],
    ),
    "worker lost before the start costs no attempt": (QUEUED, LOST, [lost(True), ready(2, 1, e.ReadyCause.LOST)]),
    "worker lost while it runs": (RUNNING, LOST, [lost(False, NOW + 1000)]),
    "worker lost in the last attempt": (
        LAST_ATTEMPT,
        c.AttemptLost(task="main", assignment=2, **WHO),
        [lost(False, None, 2, 2), dead(e.DeadLetterCause.LOST)],
    ),
    "worker lost while it is being cancelled": (CANCELLING_RUNNING, LOST, [lost(False), CANCELLED]),
    "worker lost before the start of what is being cancelled": (CANCELLING, LOST, [lost(True), CANCELLED]),
    "worker died in it before its start was told: the attempt counts": (
        QUEUED,
        CRASHED,
        [started(), lost(False, NOW + 1000, crashed=True)],
    ),
    "worker died in it": (RUNNING, CRASHED, [lost(False, NOW + 1000, crashed=True)]),
    "worker died in the last attempt: poison": (
        LAST_QUEUED,
        msgspec.structs.replace(CRASHED, assignment=2),
        [started(2, 2), lost(False, None, 2, 2, crashed=True), dead(e.DeadLetterCause.POISON)],
    ),
    "worker died in what is being cancelled": (
        CANCELLING,
        CRASHED,
        [msgspec.structs.replace(started(), cancelling=True), lost(False, crashed=True), CANCELLED],
    ),
    "redrive": (DEAD, c.RedriveJob(reason=Opaque('"mended"')), [REDRIVEN, READY_AGAIN]),
    "discard": (DEAD, c.DiscardJob(reason=Opaque('"obsolete"')), [DISCARDED]),
    "failure of a run that was redriven has all its attempts": (
        [*DEAD, REDRIVEN, READY_AGAIN],
        fail(3),
        [again(started(3)), again(failed(3))],
    ),
    "failure that names the wait for the next attempt": (
        RUNNING,
        msgspec.structs.replace(fail(), retry_after_seconds=30.0),
        [msgspec.structs.replace(failed(retry_at=NOW + 30_000), retry_after_seconds=30.0)],
    ),
    "failure that names a wait beyond the bound": (
        RUNNING,
        msgspec.structs.replace(fail(), retry_after_seconds=1e12),
        [msgspec.structs.replace(failed(retry_at=NOW + 30 * DAY_MS), retry_after_seconds=1e12)],
    ),
    "failure that names a wait in the past": (
        RUNNING,
        msgspec.structs.replace(fail(), retry_after_seconds=-1.0),
        [msgspec.structs.replace(failed(retry_at=NOW), retry_after_seconds=-1.0)],
    ),
    "a wait counts as an attempt": (
        LAST_ATTEMPT,
        msgspec.structs.replace(fail(2), retry_after_seconds=30.0),
        [failed(2, 2, None), dead()],
    ),
    "failure of a type that the policy gives up on": (
        GIVING_UP,
        msgspec.structs.replace(fail(), error_type="CardDeclined"),
        [msgspec.structs.replace(failed(retry_at=None), error_type="CardDeclined"), dead(attempts=1)],
    ),
    "failure of a subclass of what the policy gives up on": (
        GIVING_UP,
        msgspec.structs.replace(fail(), error_bases=("CardDeclined", "Exception")),
        [failed(retry_at=None), dead(attempts=1)],
    ),
    "failure of another type than the policy gives up on": (GIVING_UP, fail(), [failed()]),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(domain: Any, case: str) -> None:
    """The command comes to these events."""
    domain("job").assert_events(*ACCEPTED[case])


STALE = (SCHEDULED_JOB, RETRYING, DEAD, DONE)
REPORTS = (START, SUCCESS, CHECKPOINT, fail(), CRASHED, CANCEL_REPORT, RETURN, LOST, WITHDRAWN)

REJECTED: dict[str, tuple[list[Any], Any, Code, str]] = {
    "submit to a queue that no stream can name": (
        [],
        msgspec.structs.replace(SUBMIT, queue="a|b"),
        Code.INVALID,
        "queue",
    ),
    "submit what exists": (QUEUED, SUBMIT, Code.ALREADY_EXISTS, "id"),
    "cancel after the success": (DONE, c.CancelJob(), Code.ALREADY_ENDED, "id"),
    "cancel a dead letter": (DEAD, c.CancelJob(), Code.ALREADY_ENDED, "id"),
    "redrive what runs": (RUNNING, c.RedriveJob(), Code.INVALID_STATE, "id"),
    "redrive twice": ([*DEAD, REDRIVEN, READY_AGAIN], c.RedriveJob(), Code.INVALID_STATE, "id"),
    "redrive a success": (DONE, c.RedriveJob(), Code.ALREADY_ENDED, "id"),
    "redrive what was discarded": ([*DEAD, DISCARDED], c.RedriveJob(), Code.ALREADY_ENDED, "id"),
    "discard what waits": (QUEUED, c.DiscardJob(), Code.INVALID_STATE, "id"),
    "discard twice": ([*DEAD, DISCARDED], c.DiscardJob(), Code.ALREADY_ENDED, "id"),
    "cancel twice, ended": (GONE, c.CancelJob(), Code.ALREADY_ENDED, "id"),
    "wake too early": (SCHEDULED_JOB, c.MarkDue(task="main", due_at_ms=NOW + 5000), Code.INVALID_STATE, ""),
    "wake for another time": (SCHEDULED_JOB, c.MarkDue(task="main", due_at_ms=5), Code.INVALID_STATE, "id"),
    "wake what is queued": (QUEUED, c.MarkDue(task="main", due_at_ms=NOW), Code.INVALID_STATE, "id"),
    "wake what has ended": (GONE, c.MarkDue(task="main", due_at_ms=NOW + 5000), Code.ALREADY_ENDED, "id"),
    "stopped without a cancel": (RUNNING, CANCEL_REPORT, Code.INVALID_STATE, "id"),
    "withdrawn without a cancel": (QUEUED, WITHDRAWN, Code.INVALID_STATE, "id"),
    "returned after the start": (RUNNING, RETURN, Code.INVALID_STATE, "id"),
    "checkpoint too large": (
        RUNNING,
        c.ReportCheckpoint(**REPORT, **TIMES, saved_at_ms=25, checkpoint=Opaque("x" * 65_537)),
        Code.INVALID,
        "checkpoint",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_rejected(domain: Any, case: str) -> None:
    """The command is rejected with a code that names what was wrong."""
    domain("job").assert_rejected(*REJECTED[case])


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
@pytest.mark.parametrize("given", STALE, ids=("scheduled", "retrying", "dead", "done"))
def test_reports_on_what_is_not_out_are_stale(domain: Any, given: list[Any], report: Any) -> None:
    """No report of any kind counts while no assignment is out."""
    domain("job").assert_rejected(given, report, Code.STALE_ASSIGNMENT, "assignment")


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_reports_on_an_older_assignment_are_stale(domain: Any, report: Any) -> None:
    """The fencing token: after the task has gone out again, the first assignment counts for nothing."""
    domain("job").assert_rejected(LAST_ATTEMPT, report, Code.STALE_ASSIGNMENT, "assignment")


NOT_SUBMITTING = (*REPORTS, c.CancelJob(), c.MarkDue(task="main", due_at_ms=1), c.QueryJob())


@pytest.mark.parametrize("command", NOT_SUBMITTING, ids=lambda command: type(command).__name__)
def test_nothing_but_a_submission_reaches_an_unknown_job(domain: Any, command: Any) -> None:
    domain("job").assert_rejected([], command, Code.NOT_FOUND_OR_EXPIRED, "id")


def test_due_time_and_back_off_wake_the_job_exactly_then(domain: Any) -> None:
    """A timer makes the task ready at its time, not a millisecond before, as a new attempt."""
    job = domain("job")
    job.assert_events(SCHEDULED_JOB, c.MarkDue(task="main", due_at_ms=NOW + 5000), [_due_later()], now=NOW + 5000)
    again = ready(2, 2, e.ReadyCause.RETRY, NOW + 1000)
    job.assert_events(RETRYING, c.MarkDue(task="main", due_at_ms=NOW + 1000), [again], now=NOW + 1000)
    early = job.decide(RETRYING, c.MarkDue(task="main", due_at_ms=NOW + 1000), now=NOW + 999)
    assert early.code is Code.INVALID_STATE


def _due_later() -> e.TaskReady:
    at = NOW + 5000
    return e.TaskReady(**OF, attempt=1, assignment=1, ready_at_ms=at, due_at_ms=at, cause=e.ReadyCause.DUE)


def test_a_query_is_answered_from_memory(domain: Any) -> None:
    answer = domain("job").assert_answer(RETRYING, c.QueryJob())
    assert (answer["status"], answer["version"], answer["next_timer_ms"]) == ("RETRYING", 4, NOW + 1000)


def test_an_endless_name_is_told_by_its_beginning(domain: Any) -> None:
    """A rejection stays short whatever somebody sends."""
    rejection = domain("job").decide([], msgspec.structs.replace(SUBMIT, queue="-" + "x" * 1_000))
    assert rejection.value == "-" + "x" * 119
    assert rejection.message.endswith(f"but got '{rejection.value}'.")


FOLLOWS: dict[str, tuple[list[Any], Any]] = {
    "a ready task is enqueued": (QUEUED, q.EnqueueTask),
    "a cancel request withdraws": (CANCELLING, q.WithdrawTask),
    "a success releases": ([*RUNNING, succeeded()], q.ReleaseTask),
    "a failure releases": (RETRYING, q.ReleaseTask),
    "a loss releases": ([*RUNNING, lost(False, NOW + 1)], q.ReleaseTask),
    "a return releases": ([*QUEUED, returned()], q.ReleaseTask),
    "a stop by the worker releases": ([*CANCELLING, stopped()], q.ReleaseTask),
    "a withdrawal has nothing to release": ([*CANCELLING, stopped("")], None),
    "a start leads to nothing": (RUNNING, None),
    "an end leads to nothing": (DONE, None),
}


@pytest.mark.parametrize("case", FOLLOWS)
def test_what_follows_goes_to_the_queue(domain: Any, case: str) -> None:
    """Each event that changes what the queue must know sends it one command, any other none."""
    given, kind = FOLLOWS[case]
    effects = domain("job").effects(given)
    assert [type(effect.body) for effect in effects] == ([kind] if kind else [])
    for effect in effects:
        assert isinstance(effect, FollowUp)
        assert effect.stream == QUEUE
        assert (effect.body.job, effect.body.assignment) == (STREAM, 1)


def test_only_a_dead_letter_is_kept_whole_after_its_end(domain: Any) -> None:
    """It can be run again; of any other job that has ended a stub is enough."""
    job = domain("job")
    assert all(job.state(given).ended_with_stub for given in (DONE, GONE, [*DEAD, DISCARDED]))
    assert not any(job.state(given).ended_with_stub for given in (QUEUED, CANCELLING, DEAD))


def test_a_time_out_is_the_cause_of_the_dead_letter(domain: Any) -> None:
    events = domain("job").decide(LAST_ATTEMPT, fail(2, kind=c.FailureKind.TIMEOUT))
    assert events[-1] == dead(e.DeadLetterCause.TIMEOUT)


# -- the limit of an attempt ------------------------------------------------------------------------------------------


def timed_out(assignment: int, attempt: int, retry_at: int | None) -> e.TaskFailed:
    text = f"No end was reported within {(LIMIT_MS - 20) / 1000:.0f} s of the start; the attempt was ended."
    return msgspec.structs.replace(
        failed(assignment, attempt, retry_at),
        ended_at_ms=LIMIT_MS,
        kind=c.FailureKind.TIMEOUT,
        error_type="Timeout",
        error=Opaque(msgspec.json.encode({"message": text}).decode()),
        by_owner=True,
    )


OUT_OF_TIME: dict[str, tuple[list[Any], list[Any]]] = {
    "attempts left": (RUNNING, [timed_out(1, 1, LIMIT_MS + 1000)]),
    "last attempt": (
        LAST_ATTEMPT,
        [timed_out(2, 2, None), e.JobDeadLettered(ended_at_ms=LIMIT_MS, cause=e.DeadLetterCause.TIMEOUT, attempts=2)],
    ),
    "while it is being cancelled": (
        CANCELLING_RUNNING,
        [timed_out(1, 1, None), e.JobCancelled(ended_at_ms=LIMIT_MS)],
    ),
    "a cancel request that nobody answers": (
        CANCELLING,
        [
            msgspec.structs.replace(lost(True), worker="", lost_at_ms=LIMIT_MS),
            e.JobCancelled(ended_at_ms=LIMIT_MS),
        ],
    ),
}


@pytest.mark.parametrize("case", OUT_OF_TIME)
def test_the_owner_ends_what_nobody_reports_the_end_of(domain: Any, case: str) -> None:
    """At the limit, not a millisecond before; the report that comes after it is stale."""
    given, then = OUT_OF_TIME[case]
    job = domain("job")
    due = c.MarkDue(task="main", due_at_ms=LIMIT_MS)
    assert job.decide(given, due, now=LIMIT_MS - 1).code is Code.INVALID_STATE
    job.assert_events(given, due, then, now=LIMIT_MS)
    assignment = job.state(given).main.assignment
    job.assert_rejected([*given, *then], fail(assignment), Code.STALE_ASSIGNMENT, "assignment")


def test_the_limit_is_the_jobs_own_where_it_has_one(domain: Any) -> None:
    """`timeout_seconds` and half a minute of grace, from when the owner heard of the start."""
    given = [msgspec.structs.replace(submitted(), timeout_seconds=2.5), ready()]
    (event,) = domain("job").decide(given, START, now=NOW + 7)
    assert event.timeout_at_ms == NOW + 7 + 32_500


def test_a_time_out_tells_how_long_nobody_reported(domain: Any) -> None:
    """In seconds since the start."""
    limited = msgspec.structs.replace(started(timeout_at=NOW + 5_000_000), started_at_ms=NOW)
    failed, *_ = domain("job").decide(
        [*QUEUED, limited], c.MarkDue(task="main", due_at_ms=NOW + 5_000_000), now=NOW + 5_000_000
    )
    assert "within 5000 s of the start" in failed.error.data


def test_the_worker_of_an_attempt_that_the_owner_ended_is_told_to_stop(domain: Any) -> None:
    """Before its slot is free, so that the queue still knows who has it."""
    effects = domain("job").effects([*RUNNING, timed_out(1, 1, LIMIT_MS + 1000)])
    assert [type(effect.body) for effect in effects] == [q.WithdrawTask, q.ReleaseTask]


# -- hand-outs ---------------------------------------------------------------------------------------------------------


def _hand_outs(domain: Any, given: list[Any]) -> int:
    """How often a task that is in its queue goes out, when each worker loses it or hands it back before the start."""
    job = domain("job")
    for times in range(1, 100):
        task = job.state(given).main
        report = c.AttemptLost if times % 2 else c.ReportReturned
        why = {} if times % 2 else {"reason": "stopping"}
        _, then = decision = job.decide(given, report(task="main", assignment=task.assignment, **WHO, **why))
        if isinstance(then, e.JobDeadLettered):
            assert then == dead(e.DeadLetterCause.DISPATCH_FAILED, task.attempt)
            return times
        assert (then.attempt, then.assignment) == (task.attempt, task.assignment + 1)
        given = [*given, *decision]
    return 100


HANDED_OUT: dict[str, list[Any]] = {
    "for the first time": QUEUED,
    "again after a start": [*OFTEN_RETURNED, started(10), failed(10), ready(11, 2, e.ReadyCause.RETRY)],
    "again after a loss while it ran": [*RUNNING, lost(False, NOW + 1000), ready(2, 2, e.ReadyCause.RETRY)],
    "again after a redrive": [
        *OFTEN_RETURNED,
        returned(10),
        dead(e.DeadLetterCause.DISPATCH_FAILED, 1),
        REDRIVEN,
        msgspec.structs.replace(READY_AGAIN, assignment=11),
    ],
}


@pytest.mark.parametrize("case", HANDED_OUT)
def test_a_task_goes_out_ten_times_without_a_start(domain: Any, case: str) -> None:
    """Lost or handed back, ten in a row: then the job is a dead letter. A start or a redrive counts anew."""
    assert _hand_outs(domain, HANDED_OUT[case]) == 10


def test_a_task_that_is_ready_again_keeps_nothing_of_the_hand_out_before_it(domain: Any) -> None:
    """No worker, no start, no limit and no back-off; only how far it came."""
    given = [*RUNNING, SAVED, failed(), ready(2, 2, e.ReadyCause.RETRY, NOW + 1000)]
    assert domain("job").state(given).main == Task(
        attempt=2, assignment=2, ready_at_ms=NOW + 1000, checkpoint=SAVED.checkpoint
    )


# -- a handler that takes its worker down -----------------------------------------------------------------------------


def _start_first(domain: Any, given: list[Any]) -> bool:
    (effect,) = domain("job").effects(given)
    assert isinstance(effect.body, q.EnqueueTask)
    return effect.body.start_first


def test_a_hand_out_that_may_be_one_run_too_many_is_started_on_the_log_first(domain: Any) -> None:
    """A task with one attempt always; any other after a worker was lost with it before its start was known."""
    once = msgspec.structs.replace(submitted(), retry=msgspec.structs.replace(RETRY, max_attempts=1))
    assert _start_first(domain, [once, ready()])
    assert not _start_first(domain, QUEUED)
    assert _start_first(domain, [*QUEUED, lost(True), ready(2, 1, e.ReadyCause.LOST)])
    assert not _start_first(domain, [*RETRYING, ready(2, 2, e.ReadyCause.RETRY)])
    lost_once = [*QUEUED, lost(True), ready(2, 1, e.ReadyCause.LOST), started(2), failed(2)]
    assert _start_first(domain, [*lost_once, ready(3, 2, e.ReadyCause.RETRY)])


def test_a_redriven_job_goes_on_from_its_checkpoint(domain: Any) -> None:
    """Another run has another execution id and the attempts of its policy, and knows how far the last one came."""
    given = [*RUNNING, SAVED, failed(), *LAST_ATTEMPT[4:], failed(2, 2, None), dead(), REDRIVEN, READY_AGAIN]
    (effect,) = domain("job").effects(given)
    task = effect.body
    assert (task.checkpoint, task.attempt, task.assignment, task.execution_id) == (Opaque("7"), 1, 3, SECOND_RUN)


def test_an_attempt_that_ran_before_attempts_had_limits_ends_too(domain: Any) -> None:
    """When it started was not noted: from when it was ready it may have waited for a day, and then run for its time."""
    job = domain("job")
    given = [msgspec.structs.replace(submitted(), timeout_seconds=60.0), ready(at=NOW), started()]
    at = NOW + (86_400 + 60 + 30) * 1000
    due = c.MarkDue(task="main", due_at_ms=at)
    assert job.decide(given, due, now=at - 1).code is Code.INVALID_STATE
    failed, *_ = job.decide(given, due, now=at)
    assert (failed.kind, failed.started_at_ms) == (c.FailureKind.TIMEOUT, NOW)
    assert "within 86490 s" in failed.error.data


def test_who_cancels_a_dead_letter_learns_what_can_be_done_with_it(domain: Any) -> None:
    rejection = domain("job").decide(DEAD, c.CancelJob())
    assert rejection.message.endswith("but it is DEAD_LETTERED: redrive or discard it.")
