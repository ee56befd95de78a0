"""Every command of a queue: what it comes to, or why it is rejected."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger.domain.effects import FollowUp, ToWorker
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as c
from jobledger.domain.queue import events as e
from jobledger.domain.queue.decide import MAX_LOST_PER_DECISION, decide
from jobledger.domain.queue.settings import DEFAULT_MAX_WAITING_BYTES
from jobledger.domain.values import Code, Opaque, Rejection
from jobledger.domain.worker_messages import CancelTask, RunTask

NOW = 1_000_000
PAYLOAD = Opaque("{}")
CREATED = e.QueueCreated(created_at_ms=NOW, max_waiting_bytes=1000, description="mine")
DEFAULTS = e.QueueCreated(created_at_ms=NOW, max_waiting_bytes=DEFAULT_MAX_WAITING_BYTES)


def enqueue(job: str = "j1", priority: int = 3, handler: str = "work", assignment: int = 1) -> c.EnqueueTask:
    return c.EnqueueTask(
        job=f"job:default:{job}",
        task="main",
        assignment=assignment,
        execution_id="x",
        attempt=1,
        handler=handler,
        priority=priority,
        payload=PAYLOAD,
        due_at_ms=5,
        ready_at_ms=6,
    )


def enqueued(job: str = "j1", priority: int = 3, handler: str = "work", assignment: int = 1) -> e.TaskEnqueued:
    return e.TaskEnqueued(
        job=f"job:default:{job}",
        task="main",
        assignment=assignment,
        execution_id="x",
        attempt=1,
        handler=handler,
        priority=priority,
        payload=PAYLOAD,
        due_at_ms=5,
        ready_at_ms=6,
        enqueued_at_ms=NOW,
    )


def assigned(job: str = "j1", worker: str = "w", priority: int = 3) -> e.TaskAssigned:
    return e.TaskAssigned(
        job=f"job:default:{job}",
        task="main",
        assignment=1,
        execution_id="x",
        attempt=1,
        worker=worker,
        incarnation=f"{worker}.1",
        assigned_at_ms=NOW,
        ready_at_ms=6,
        due_at_ms=5,
        priority=priority,
    )


def ref(job: str = "j1", assignment: int = 1) -> dict[str, Any]:
    return {"job": f"job:default:{job}", "task": "main", "assignment": assignment}


def who(worker: str = "w") -> dict[str, Any]:
    return {"worker": worker, "incarnation": f"{worker}.1"}


def credits(n: int, worker: str = "w", handlers: tuple[str, ...] = ("work",)) -> e.CreditsSet:
    return e.CreditsSet(**who(worker), pool="default", credits=n, handlers=list(handlers), set_at_ms=NOW)


def set_credits(n: int, worker: str = "w") -> c.SetCredits:
    return c.SetCredits(**who(worker), pool="default", credits=n, handlers=["work"])


def released(job: str = "j1", outcome: c.ReleaseOutcome = c.ReleaseOutcome.ENDED) -> e.TaskReleased:
    return e.TaskReleased(**ref(job), **who(), outcome=outcome, released_at_ms=NOW)


def worker_lost(*jobs: str) -> e.WorkerLost:
    return e.WorkerLost(**who(), lost_at_ms=NOW, lost=[f"job:default:{job}/main" for job in jobs])


def _mails(*jobs: str) -> list[e.TaskEnqueued]:
    return [enqueued(job, handler="mail") for job in jobs]


REMOVED = e.WorkerRemoved(**who(), removed_at_ms=NOW)
WITHDRAWN = e.TaskRemoved(**ref(), withdrawn_at_ms=NOW)
SERVED = [CREATED, credits(2)]
WAITING = [*SERVED, enqueued()]
HELD = [*WAITING, assigned()]
TWO_HELD = [*HELD, enqueued("j2"), assigned("j2")]
HELD_BY_LOST = [*HELD, worker_lost("j1")]

ACCEPTED: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "create": ([], c.CreateQueue(max_waiting_bytes=1000, description="mine"), [CREATED]),
    "update": (
        [CREATED],
        c.UpdateQueue(max_waiting_bytes=7),
        [e.QueueUpdated(updated_at_ms=NOW, max_waiting_bytes=7, description="mine")],
    ),
    "update that changes nothing": ([CREATED], c.UpdateQueue(description="mine"), []),
    "a first task brings the queue into being": ([], enqueue(), [DEFAULTS, enqueued()]),
    "a first worker brings the queue into being": ([], set_credits(2), [DEFAULTS, credits(2)]),
    "enqueue": ([CREATED], enqueue(), [enqueued()]),
    "register": ([CREATED], set_credits(2), [credits(2)]),
    "change of credits": (SERVED, set_credits(0), [credits(0)]),
    "the same credits again change nothing": (SERVED, set_credits(2), []),
    "dispatch": (WAITING, c.DispatchTasks(), [assigned()]),
    "dispatch without a waiting task": (SERVED, c.DispatchTasks(), []),
    "dispatch without a free slot": (
        [*TWO_HELD, enqueued("j3")],
        c.DispatchTasks(),
        [],
    ),
    "dispatch without a worker for the handler": ([*SERVED, enqueued(handler="other")], c.DispatchTasks(), []),
    "dispatch passes over what nobody serves": (
        [*SERVED, enqueued("j1", 1, "other"), enqueued("j2", 5)],
        c.DispatchTasks(),
        [assigned("j2", priority=5)],
    ),
    "dispatch by priority, then by age": (
        [*SERVED, enqueued("j1", 4), enqueued("j2", 2), enqueued("j3", 2), enqueued("j4", 1)],
        c.DispatchTasks(),
        [assigned("j4", priority=1), assigned("j2", priority=2)],
    ),
    "workers take turns": (
        [CREATED, credits(2), credits(2, "v"), enqueued("j1"), enqueued("j2"), enqueued("j3")],
        c.DispatchTasks(),
        [assigned("j1"), assigned("j2", "v"), assigned("j3")],
    ),
    "handlers of one priority share their turns by age": (
        [CREATED, credits(9, handlers=("work", "mail")), enqueued("j1"), *_mails("j2", "j3"), enqueued("j4")],
        c.DispatchTasks(),
        [assigned("j1"), assigned("j2"), assigned("j3"), assigned("j4")],
    ),
    "dispatch to the only slot": ([CREATED, credits(1), enqueued(), enqueued("j2")], c.DispatchTasks(), [assigned()]),
    "dispatch not to a worker that holds more than it now takes": (
        [*TWO_HELD, credits(1), enqueued("j3")],
        c.DispatchTasks(),
        [],
    ),
    "dispatch not to a lost worker": ([*HELD_BY_LOST, enqueued("j2")], c.DispatchTasks(), []),
    "withdraw what waits": (WAITING, c.WithdrawTask(**ref()), [WITHDRAWN]),
    "withdraw what is held tells the worker": (
        HELD,
        c.WithdrawTask(**ref()),
        [e.TaskCancelSent(**ref(), **who(), sent_at_ms=NOW)],
    ),
    "withdraw what is lost has been told already": (HELD_BY_LOST, c.WithdrawTask(**ref()), []),
    "release": (HELD, c.ReleaseTask(**ref(), outcome=c.ReleaseOutcome.ENDED), [released()]),
    "release of what waits takes it out": (
        WAITING,
        c.ReleaseTask(**ref(), outcome=c.ReleaseOutcome.ENDED),
        [WITHDRAWN],
    ),
    "the last release removes a lost worker": (
        HELD_BY_LOST,
        c.ReleaseTask(**ref(), outcome=c.ReleaseOutcome.LOST),
        [released(outcome=c.ReleaseOutcome.LOST), REMOVED],
    ),
    "a lost worker stays until its last task is released": (
        [*TWO_HELD, worker_lost("j1", "j2")],
        c.ReleaseTask(**ref(), outcome=c.ReleaseOutcome.LOST),
        [released(outcome=c.ReleaseOutcome.LOST)],
    ),
    "lease over": (TWO_HELD, c.ExpireLease(**who()), [worker_lost("j1", "j2")]),
    "lease over of a worker without tasks": (SERVED, c.ExpireLease(**who()), [worker_lost(), REMOVED]),
    "lease over twice": (HELD_BY_LOST, c.ExpireLease(**who()), []),
    "lease over of a worker that has left": ([CREATED], c.ExpireLease(**who()), []),
    "leave": (SERVED, c.RemoveWorker(**who()), [REMOVED]),
    "leave twice": ([CREATED], c.RemoveWorker(**who()), []),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(domain: Any, case: str) -> None:
    """The command comes to these events."""
    domain("queue").assert_events(*ACCEPTED[case])


RELEASE = c.ReleaseTask(**ref(), outcome=c.ReleaseOutcome.ENDED)
OLDER = c.ReleaseTask(**ref(assignment=9), outcome=c.ReleaseOutcome.ENDED)
REJECTED: dict[str, tuple[list[Any], Any, Code, str]] = {
    "create what exists": ([CREATED], c.CreateQueue(max_waiting_bytes=1), Code.ALREADY_EXISTS, "name"),
    "enqueue twice": (WAITING, enqueue(), Code.ALREADY_EXISTS, ""),
    "enqueue the next assignment beside the last": (HELD, enqueue(assignment=2), Code.ALREADY_EXISTS, ""),
    "withdraw another assignment": (WAITING, c.WithdrawTask(**ref(assignment=2)), Code.STALE_ASSIGNMENT, "assignment"),
    "release another assignment": (HELD, OLDER, Code.STALE_ASSIGNMENT, "assignment"),
    "release twice": ([*HELD, released()], RELEASE, Code.STALE_ASSIGNMENT, "assignment"),
    "credits of a lost worker": (HELD_BY_LOST, set_credits(3), Code.INVALID_STATE, "incarnation"),
    "leave with tasks": (HELD, c.RemoveWorker(**who()), Code.INVALID_STATE, ""),
}
NEED_A_QUEUE = (
    c.UpdateQueue(),
    c.WithdrawTask(**ref()),
    RELEASE,
    c.RemoveWorker(**who()),
    c.ExpireLease(**who()),
    c.DispatchTasks(),
    c.QueryQueue(),
)


@pytest.mark.parametrize("case", REJECTED)
def test_rejected(domain: Any, case: str) -> None:
    """The command is rejected with a code that names what was wrong."""
    domain("queue").assert_rejected(*REJECTED[case])


@pytest.mark.parametrize("command", NEED_A_QUEUE, ids=lambda command: type(command).__name__)
def test_an_unknown_queue_is_named(domain: Any, command: Any) -> None:
    domain("queue").assert_rejected([], command, Code.NOT_FOUND_OR_EXPIRED, "name")


@pytest.mark.parametrize("command", [c.CreateQueue(max_waiting_bytes=1), enqueue(), set_credits(1)])
def test_no_queue_comes_into_being_under_a_name_that_no_stream_can_have(command: Any) -> None:
    """Not by hand, and not by its first task or worker either."""
    rejection = decide("queue:default:a|b", None, command, NOW)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.field, rejection.value) == (Code.INVALID, "name", "a|b")


def test_tasks_are_numbered_as_they_come(domain: Any) -> None:
    """From 1, without a gap, also after one has gone: the age that a dispatch goes by."""
    state = domain("queue").state([*WAITING, enqueued("j2"), WITHDRAWN, enqueued("j3")])
    assert {task.job[-2:]: task.number for task in state.lanes.tasks.values()} == {"j2": 2, "j3": 3}
    assert state.queue.enqueued == 3


def test_a_dispatch_is_bounded_by_its_assignments(domain: Any) -> None:
    """400 at once, however many tasks wait for however many slots."""
    given = [CREATED, credits(1_000), *(enqueued(f"j{n}") for n in range(401))]
    first = domain("queue").decide(given, c.DispatchTasks())
    assert len(first) == 400
    (last,) = domain("queue").decide([*given, *first], c.DispatchTasks())
    assert last.job == "job:default:j400"


@pytest.mark.parametrize(
    ("sizes", "assigned_at_once"),
    [
        ((700_000, 700_000, 700_000, 700_000), 2),
        ((5 << 20, 1), 1),
        ((1 << 20, 1), 1),
        (((1 << 20) - 1, 1, 1), 2),
    ],
)
def test_a_dispatch_is_bounded_by_payload_bytes(domain: Any, sizes: tuple[int, ...], assigned_at_once: int) -> None:
    """It ends with the task that reaches 1 MiB; the first task goes whatever its size."""
    tasks = [_with_payload(enqueued(f"j{n}"), Opaque("x" * size)) for n, size in enumerate(sizes)]
    events = domain("queue").decide([CREATED, credits(10), *tasks], c.DispatchTasks())
    assert len(events) == assigned_at_once


def _with_payload(event: e.TaskEnqueued, payload: Opaque) -> e.TaskEnqueued:
    import msgspec

    return msgspec.structs.replace(event, payload=payload)


def test_a_worker_with_many_tasks_is_lost_in_several_decisions(domain: Any) -> None:
    """A decision names at most MAX_LOST_PER_DECISION tasks, and asks for the next one while any are left."""
    names = [f"j{n}" for n in range(MAX_LOST_PER_DECISION + 1)]
    given: list[Any] = [CREATED, credits(500)]
    for name in names:
        given += [enqueued(name), assigned(name)]
    queue = domain("queue")
    (first,) = queue.decide(given, c.ExpireLease(**who()))
    assert len(first.lost) == MAX_LOST_PER_DECISION
    effects = queue.effects([*given, first])
    assert [type(effect.body) for effect in effects] == [jc.AttemptLost] * MAX_LOST_PER_DECISION + [c.ExpireLease]
    (second,) = queue.decide([*given, first], c.ExpireLease(**who()))
    assert second.lost == [f"job:default:{names[-1]}/main"]
    assert [type(effect.body) for effect in queue.effects([*given, first, second])] == [jc.AttemptLost]


def test_what_follows_from_the_events(domain: Any) -> None:
    """An assignment runs the task, a cancel tells its worker, a withdrawal tells its job; nothing else follows."""
    queue = domain("queue")
    (run,) = queue.effects(HELD)
    assert isinstance(run, ToWorker)
    assert isinstance(run.message, RunTask)
    assert (run.message.job, run.message.assignment, run.message.queue) == ("job:default:j1", 1, "default")
    (stop,) = queue.effects([*HELD, e.TaskCancelSent(**ref(), **who(), sent_at_ms=NOW)])
    assert isinstance(stop.message, CancelTask)
    (told,) = queue.effects([*WAITING, WITHDRAWN])
    assert told == FollowUp("job:default:j1", jc.TaskWithdrawn(task="main", assignment=1))
    for given in ([CREATED], SERVED, WAITING, [*HELD, released()], [*SERVED, REMOVED]):
        assert queue.effects(given) == []


def test_a_query_says_why_a_job_waits(domain: Any) -> None:
    queue = domain("queue")

    def why(given: list[Any]) -> str:
        return str(queue.assert_answer(given, c.QueryQueue(job="job:default:j1"))["why"])

    assert why([CREATED]) == "not in this queue"
    assert "no worker serves handler 'work'" in why([CREATED, enqueued()])
    assert "slots" in why([CREATED, credits(0), enqueued()])
    assert "no worker serves handler 'work'" in why([CREATED, credits(9, handlers=("mail",)), enqueued()])
    assert "no worker serves handler 'work'" in why([*SERVED, worker_lost(), enqueued()])
    assert why(HELD) == "held by worker 'w'"


def test_a_query_tells_what_waits_and_who_holds_what(domain: Any) -> None:
    """Depths of all priorities, bytes and their bound, and each worker with its credits; `why` only when asked."""
    given = [*TWO_HELD, credits(1, "v"), enqueued("j3", 1), enqueued("j4"), worker_lost()]
    worker = {"pool": "default"}
    assert domain("queue").assert_answer(given, c.QueryQueue()) == {
        "depth": {"1": 1, "2": 0, "3": 1, "4": 0, "5": 0},
        "waiting_bytes": 4,
        "max_waiting_bytes": 1000,
        "held": 2,
        "workers": [
            {**who(), **worker, "credits": 2, "held": 2, "lost": True},
            {**who("v"), **worker, "credits": 1, "held": 0, "lost": False},
        ],
    }


def test_a_query_tells_of_a_thousand_workers(domain: Any) -> None:
    """An answer stays small however many there are."""
    given = [CREATED, *(credits(1, f"w{n}") for n in range(1_001))]
    assert len(domain("queue").assert_answer(given, c.QueryQueue())["workers"]) == 1_000


def test_how_many_workers_serve_a_handler(domain: Any) -> None:
    """Workers that are lost don't count; nothing is said when nobody has asked."""
    queue = domain("queue")

    def serving(given: list[Any], handler: str) -> Any:
        return queue.assert_answer(given, c.QueryQueue(handler=handler))["serving"]

    assert serving([CREATED], "work") == 0
    assert serving([CREATED, credits(0)], "work") == 1
    assert serving([CREATED, credits(0)], "wrok") == serving(HELD_BY_LOST, "work") == 0
    assert "serving" not in queue.assert_answer([CREATED], c.QueryQueue())
