"""The owner lets no job begin twice under one id, and tells how an ended one ended."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from jobledger.domain.identity import derived_job_id, job_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.events import JobSubmitted
from jobledger.domain.values import SYSTEM, Actor, ActorKind, Code, Opaque, RetryPolicy
from jobledger.processors.core.machine import Incoming, Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.recovery import rebuild
from jobledger.processors.core.retained import Retained
from jobledger.schemas.commands import Command, ReadRecord
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

NOW = 1_800_000_000_000
DAY_MS = 86_400_000
USER, WORKER = Actor(ActorKind.USER, "ada"), Actor(ActorKind.WORKER, "w")
SUBMIT = jc.SubmitJob(handler="work", queue="default", payload=Opaque("{}"), retry=RetryPolicy(max_attempts=1))
WHO: dict[str, Any] = {"task": "main", "assignment": 1, "worker": "w", "incarnation": "i"}
TIMES: dict[str, Any] = {"assigned_at_ms": NOW, "started_at_ms": NOW, "ended_at_ms": NOW}
SUCCESS = jc.ReportSucceeded(**WHO, **TIMES)
FAILURE = jc.ReportFailed(**WHO, **TIMES, kind=jc.FailureKind.FAILED, error_type="E", error=Opaque("{}"))


def made_at(ms: int, version: int = 7) -> str:
    text = f"{ms:012x}"
    return job_stream("default", f"{text[:8]}-{text[8:]}-{version}c0a-9f4e-2d1c7e0b5a41")


class Partition:
    """A machine whose plans all commit."""

    def __init__(self, window_ms: int = DAY_MS) -> None:
        self.machine: Machine = rebuild(0, "c", 1, {}, Limits(dedup_window_ms=window_ms), Retained())
        self._offset = 0

    def turn(self, now: int, *commands: Command) -> Plan:
        waiting = deque([(self._offset, ReadRecord(commands=list(commands)))] if commands else [])
        self._offset += len(waiting)
        plan = self.machine.decide(now, Incoming(waiting, deque()), single=False, over_time=lambda: False)
        self.machine.committed(plan)
        return plan

    def ask(self, now: int, stream: str, body: Any, command_id: str, actor: Actor = USER) -> Outcome:
        plan = self.turn(now, Command(id=command_id, stream=stream, actor=actor, body=body, reply=True))
        (outcome,) = plan.outcomes
        return outcome


def lives(partition: Partition, stream: str, made_ms: int) -> int:
    """Submit, succeed, and submit again each hour for two days; how often the stream began."""
    began = 0
    for hour in range(48):
        now = made_ms + hour * 3_600_000
        for body, actor in ((SUBMIT, USER), (SUCCESS, WORKER)):
            plan = partition.turn(now, Command(id=f"{hour}/{body}", stream=stream, actor=actor, body=body))
            began += sum(isinstance(record.data, JobSubmitted) for record in plan.records)
    return began


@pytest.mark.parametrize("ahead_ms", [0, 299_999, 300_000])
def test_an_id_is_a_job_once_whatever_the_clock_that_made_it(ahead_ms: int) -> None:
    """An id from a clock that is ahead is taken for longer, so its stub stays for longer."""
    assert lives(Partition(), made_at(NOW + ahead_ms), NOW) == 1


@pytest.mark.parametrize(
    "stream",
    [
        job_stream("default", "6f1d1d2c-6f5b-4c0a-9f4e-2d1c7e0b5a41"),
        job_stream("default", "6f1d1d2c-6f5b-5c0a-9f4e-2d1c7e0b5a41"),
        job_stream("default", "j1"),
        made_at(NOW + 2 * 3_600_000),
        made_at(NOW - DAY_MS),
        made_at(NOW, version=8),
    ],
)
def test_an_id_that_could_live_twice_is_refused(stream: str) -> None:
    partition = Partition()
    outcome = partition.ask(NOW, stream, SUBMIT, "c1")
    assert outcome.status is OutcomeStatus.REJECTED
    assert outcome.rejection is not None
    assert (outcome.rejection.code, outcome.rejection.field) == (Code.INVALID, "commandId")
    assert outcome.rejection.value == stream.rpartition(":")[2]
    assert partition.machine.streams["job"] == {}


def test_a_job_that_the_system_derived_begins_however_late_its_command_comes() -> None:
    partition = Partition()
    stream = job_stream("default", derived_job_id(NOW, "schedule:default:nightly", NOW))
    assert partition.ask(NOW + 3 * DAY_MS, stream, SUBMIT, "f", SYSTEM).status is OutcomeStatus.ACCEPTED
    again = partition.ask(NOW + 3 * DAY_MS, stream, SUBMIT, "f", SYSTEM)
    assert (again.status, again.duplicate) == (OutcomeStatus.ACCEPTED, True)


ENDS: dict[str, tuple[list[tuple[Any, Actor]], str]] = {
    "succeeded": ([(SUBMIT, USER), (SUCCESS, WORKER)], "SUCCEEDED"),
    "cancelled": ([(jc.SubmitJob(handler="h", queue="q", payload=Opaque("{}"), due_at_ms=NOW + 5), USER)], "CANCELLED"),
    "discarded": ([(SUBMIT, USER), (FAILURE, WORKER), (jc.DiscardJob(), USER)], "DISCARDED"),
    "dead": ([(SUBMIT, USER), (FAILURE, WORKER)], "DEAD_LETTERED"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_command_to_an_ended_job_is_told_how_it_ended(end: str) -> None:
    """ALREADY_ENDED with the final status while a stub is left; afterwards nobody knows the job."""
    steps, status = ENDS[end]
    partition, stream = Partition(), made_at(NOW)
    for number, (body, actor) in enumerate(steps):
        partition.turn(NOW, Command(id=f"s{number}", stream=stream, actor=actor, body=body))
    if end == "cancelled":
        assert partition.ask(NOW, stream, jc.CancelJob(), "first").status_after == "CANCELLED"
        assert partition.ask(NOW, stream, jc.CancelJob(), "first").duplicate
    outcome = partition.ask(NOW, stream, jc.CancelJob(), "late")
    assert (outcome.status, outcome.status_after) == (OutcomeStatus.REJECTED, status)
    assert outcome.rejection is not None
    assert outcome.rejection.code is Code.ALREADY_ENDED
    advice = ": redrive or discard it" if end == "dead" else ""
    assert outcome.rejection.message == f"Expected to cancel job '{stream}', but it is {status}{advice}."
    if end != "dead":
        partition.turn(NOW + DAY_MS)
        gone = partition.ask(NOW + DAY_MS, stream, jc.CancelJob(), "too late")
        assert gone.rejection is not None
        assert gone.rejection.code is Code.NOT_FOUND_OR_EXPIRED


def test_a_dead_letter_that_is_redriven_runs_again_and_a_repeat_of_the_command_does_not() -> None:
    partition, stream = Partition(), made_at(NOW)
    for number, (body, actor) in enumerate(ENDS["dead"][0]):
        partition.turn(NOW, Command(id=f"s{number}", stream=stream, actor=actor, body=body))
    first = partition.ask(NOW, stream, jc.RedriveJob(), "again")
    repeat = partition.ask(NOW, stream, jc.RedriveJob(), "again")
    assert (first.status_after, first.duplicate, repeat.duplicate) == ("QUEUED", False, True)
    report = jc.ReportSucceeded(**{**WHO, "assignment": 2}, **TIMES)
    done = partition.ask(NOW, stream, report, "r", WORKER)
    assert done.status_after == "SUCCEEDED"


def test_the_owner_ends_an_attempt_that_nobody_reports_the_end_of() -> None:
    """By its own timer, a day and half a minute after it heard of the start; the late report is stale."""
    partition, stream = Partition(), made_at(NOW)
    partition.turn(NOW, Command(id="s", stream=stream, actor=USER, body=SUBMIT))
    start = jc.ReportStarted(**WHO, assigned_at_ms=NOW, started_at_ms=NOW)
    partition.turn(NOW, Command(id="r", stream=stream, actor=WORKER, body=start))
    limit = NOW + DAY_MS + 30_000
    assert partition.machine.next_due_ms() == limit
    assert not partition.turn(limit - 1).records
    types = [record.data.__struct_config__.tag for record in partition.turn(limit).records]
    assert types[:2] == ["task.failed.v1", "job.dead_lettered.v1"]
    late = partition.ask(limit, stream, SUCCESS, "late", WORKER)
    assert late.rejection is not None
    assert late.rejection.code is Code.STALE_ASSIGNMENT
