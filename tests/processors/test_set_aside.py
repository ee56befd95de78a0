"""Who is to blame when a batch fails: one command, alone, or the environment and nobody."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest
from memory_owner import NOW, WORKER, Decider, MemoryOwner, command, credits, expire, submit, wait_for
from memory_owner import job as new_job

from jobledger.domain.aggregates import AGGREGATES
from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job import decide as jobs
from jobledger.domain.job.events import JobSubmitted, TaskReady
from jobledger.domain.queue import decide as queues
from jobledger.domain.queue.events import TaskEnqueued, WorkerLost
from jobledger.domain.values import Code, Rejection
from jobledger.processors.core import owner as owners
from jobledger.processors.core.batch import ENVIRONMENT, UndecidedError
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.ports import RefusedRecordError
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.sizes import OversizeError, Sizes
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.quarantine import decode_quarantine

QUEUE = queue_stream("default", "default")
Patch = pytest.MonkeyPatch
#: The event that the broker does not take, and what stands in quarantine for it.
REFUSED: dict[str, Any] = {
    "submission": JobSubmitted,
    "follow-up": TaskEnqueued,
    "timer": TaskReady,
    "lease": WorkerLost,
}
RAW = {"submission": "job.submit", "follow-up": "enqueue_task", "timer": "mark_due", "lease": "expire_lease"}


def report(job: str) -> Any:
    body = jc.ReportSucceeded(
        task="main",
        assignment=1,
        worker="w1",
        incarnation="i1",
        assigned_at_ms=NOW,
        started_at_ms=NOW,
        ended_at_ms=NOW,
    )
    return command(job, body, f"report/{job}", WORKER, reply=False)


def set_aside(entries: Any) -> list[str]:
    """The raw text of what went to quarantine."""
    return [one.text for entry in entries if entry.topic_letter == "q" for one in decode_quarantine(entry.value)]


def quarantined(one: MemoryOwner) -> list[str]:
    """What an owner has set aside so far."""
    return set_aside(entry for plan in one.log.plans for entry in plan.outbox)


def at_rest(one: MemoryOwner) -> bool:
    """Whether an owner has nothing left to do and no failure behind it."""
    machine = one.owner.machine
    return machine is not None and not machine.unfinished and not machine.timers and not one.owner._failures


@pytest.fixture
def quick(monkeypatch: Patch) -> None:
    monkeypatch.setattr(owners, "REOPEN_FIRST_SECONDS", 0.01)


class FullDisk(Retained):
    """The cache of stubs on a disk that is full for a while."""

    full = False

    def put_many(self, rows: Any) -> None:
        if FullDisk.full:
            raise sqlite3.OperationalError("database or disk is full")
        super().put_many(rows)

    def get(self, key: bytes) -> bytes | None:
        if FullDisk.full:
            raise sqlite3.OperationalError("disk I/O error")
        return super().get(key)


@pytest.mark.usefixtures("quick")
async def test_a_full_disk_sets_nothing_aside_and_the_delay_grows_until_a_commit(monkeypatch: Patch) -> None:
    """Errors of the environment are waited for, longer each time; no command pays for them."""
    async with MemoryOwner(make_retained=FullDisk) as one:
        one.feed(credits(QUEUE, 5), submit(new_job("a")))
        await one.outcome(new_job("a"))
        pauses: list[float] = []

        async def pause(seconds: float) -> None:
            pauses.append(seconds)
            FullDisk.full = len(pauses) < 5

        monkeypatch.setattr(one.owner, "_pause", pause)
        FullDisk.full = True
        one.feed(report(new_job("a")), submit(new_job("b")))
        await one.outcome(new_job("b"))
        assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16]
        assert one.owner.trouble is None
        assert one.machine.load(new_job("a")) is None, "the report counts"
        assert quarantined(one) == []


@pytest.mark.parametrize("error", [error("no") for error in ENVIRONMENT])
def test_errors_of_the_machine_are_nobodys_fault(monkeypatch: Patch, error: Exception) -> None:
    one = Decider()

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(one.machine.retained, "get", fail)
    one.feed(submit(new_job("a")))
    with pytest.raises(type(error)):
        one.turn()


def raise_for(monkeypatch: Patch, kind: str, place: str, wanted: Any) -> None:
    """Make `decide` or `react` of an aggregate raise where `wanted(argument)` holds."""
    original = AGGREGATES[kind]

    def broken(*given: Any) -> Any:
        if wanted(given):
            raise KeyError("a bug")
        return getattr(original, place)(*given)

    monkeypatch.setitem(AGGREGATES, kind, original._replace(**{place: broken}))


def test_a_command_that_raises_in_its_decision_is_set_aside_in_the_same_batch(monkeypatch: Patch) -> None:
    """Nothing of it is written; what stands beside it is decided."""
    raise_for(monkeypatch, "job", "decide", lambda given: given[0] == new_job("bad"))
    one = Decider()
    one.feed(submit(new_job("a")), submit(new_job("bad")), submit(new_job("b")))
    one.settle()
    told = {outcome.command_id: outcome for outcome in one.outcomes}
    assert [told[new_job(name)].status for name in ("a", "b")] == [OutcomeStatus.ACCEPTED] * 2
    assert told[new_job("bad")].rejection is not None and told[new_job("bad")].rejection.code is Code.UNDECIDABLE
    assert len(set_aside(one.outbox)) == 1 and len(one.batches) == 1
    assert one.rebuilt().streams["job"] == one.machine.streams["job"]


def test_events_that_are_too_large_are_never_begun(monkeypatch: Patch) -> None:
    """The decision whose second event does not fit leaves no first one behind."""
    one = Decider()
    original = jobs._submit

    def large(at: str, body: jc.SubmitJob, now: int) -> Any:
        events = original(at, body, now)
        if at == new_job("bad") and not isinstance(events, Rejection):
            return [
                events[0],
                JobSubmitted(
                    **{f: getattr(events[0], f) for f in events[0].__struct_fields__} | {"handler": "x" * 3_000_000}
                ),
            ]
        return events

    monkeypatch.setattr(jobs, "_submit", large)
    one.feed(submit(new_job("a")), submit(new_job("bad")), submit(new_job("b")))
    one.settle()
    assert new_job("bad") not in {record.originator_id for record in one.records}
    assert [record.seq for record in one.records] == list(range(1, len(one.records) + 1))
    assert one.outcomes[1].rejection is not None and "bytes" in one.outcomes[1].rejection.message


def test_a_batch_that_breaks_half_way_names_the_command_that_broke_it(monkeypatch: Patch) -> None:
    """What follows from an event is in pieces when it raises: the batch is decided anew without the one to blame."""
    raise_for(monkeypatch, "job", "react", lambda given: given[0].id == new_job("bad"))
    one = Decider()
    one.feed(submit(new_job("a")), submit(new_job("bad")), submit(new_job("b")))
    with pytest.raises(UndecidedError) as caught:
        one.turn()
    assert caught.value.culprit == "log/0/1"


@pytest.mark.usefixtures("quick")
async def test_only_the_command_that_broke_the_batch_is_set_aside(monkeypatch: Patch) -> None:
    raise_for(monkeypatch, "job", "react", lambda given: given[0].id == new_job("bad"))
    async with MemoryOwner() as one:
        one.feed(submit(new_job("a")), submit(new_job("bad")), submit(new_job("b")))
        assert (await one.outcome(new_job("b"))).status is OutcomeStatus.ACCEPTED
        assert (await one.outcome(new_job("a"))).status is OutcomeStatus.ACCEPTED
        assert (await one.outcome(new_job("bad"))).status is OutcomeStatus.REJECTED
        (raw,) = quarantined(one)
        assert new_job("bad") in raw
        assert len(one.observer.all("reopened")) == 1
        assert one.owner._aside == {}, "what is written is remembered no more"


@pytest.mark.usefixtures("quick")
async def test_what_follows_from_a_command_is_set_aside_without_it(monkeypatch: Patch) -> None:
    """The job is accepted; it is its way into the queue that fails, again and again."""
    wanted = lambda given: getattr(given[1], "job", "") == new_job("bad")  # noqa: E731
    raise_for(monkeypatch, "queue", "react", wanted)
    async with MemoryOwner() as one:
        one.feed(submit(new_job("bad")), submit(new_job("a")))
        assert (await one.outcome(new_job("a"))).status is OutcomeStatus.ACCEPTED
        assert (await one.outcome(new_job("bad"))).status is OutcomeStatus.ACCEPTED
        await wait_for(lambda: quarantined(one))
        (raw,) = quarantined(one)
        assert "queue.enqueue_task.v1" in raw
        await wait_for(lambda: at_rest(one))
        assert list(one.machine.streams["queue"][QUEUE].lanes.tasks) == [new_job("a") + "/main"]


@pytest.mark.usefixtures("quick")
async def test_a_timer_that_raises_is_set_aside_and_does_not_come_back(monkeypatch: Patch) -> None:
    """Neither in this memory nor in one that is rebuilt; an innocent command next to it is decided."""
    raise_for(
        monkeypatch, "job", "decide", lambda given: isinstance(given[2], jc.MarkDue) and given[0] == new_job("bad")
    )
    async with MemoryOwner() as one:
        one.feed(*(submit(new_job(name), due_at_ms=NOW + 1_000) for name in ("bad", "good")))
        await one.outcome(new_job("good"))
        one.clock.now = NOW + 2_000
        one.feed(submit(new_job("innocent")))
        assert (await one.outcome(new_job("innocent"))).status is OutcomeStatus.ACCEPTED
        await wait_for(lambda: quarantined(one))
        await wait_for(lambda: at_rest(one))
        (raw,) = quarantined(one)
        assert f"timer/{new_job('bad')}/" in raw
        opened = one.log.opened

        async def break_once(plan: Plan) -> None:
            one.log.before_commit = None
            raise RuntimeError("the broker was away")

        one.log.before_commit = break_once
        one.feed(submit(new_job("later")))
        await one.outcome(new_job("later"))
        assert one.log.opened == opened + 1 and not one.machine.timers
        assert len(quarantined(one)) == 1


@pytest.mark.usefixtures("quick")
async def test_a_timer_whose_effects_raise_is_set_aside_too(monkeypatch: Patch) -> None:
    wanted = lambda given: given[0].id == new_job("bad") and given[0].status == "QUEUED"  # noqa: E731
    raise_for(monkeypatch, "job", "react", wanted)
    async with MemoryOwner() as one:
        one.feed(*(submit(new_job(name), due_at_ms=NOW + 1_000) for name in ("bad", "good")))
        await one.outcome(new_job("good"))
        one.clock.now = NOW + 2_000
        one.feed(submit(new_job("innocent")))
        assert (await one.outcome(new_job("innocent"))).status is OutcomeStatus.ACCEPTED
        await wait_for(lambda: quarantined(one) and at_rest(one))
        assert len(quarantined(one)) == 1
        assert one.machine.load(new_job("good")).status == "QUEUED"  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
async def test_a_lease_that_raises_is_set_aside_once(monkeypatch: Patch) -> None:
    """The worker stays silent, so its expiry would be due again four times a second."""
    monkeypatch.setattr(owners, "LEASE_CHECK_SECONDS", 0.01)

    def broken(*_: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setitem(queues._DECIDE, type(expire(QUEUE).body), broken)
    async with MemoryOwner(lease_seconds=0.05) as one:
        one.feed(credits(QUEUE, 2), submit(new_job("a")))
        await one.outcome(new_job("a"))
        one.beats.alive = False
        await wait_for(lambda: quarantined(one))
        for number in range(20):
            one.feed(submit(new_job(f"b{number}")))
            await one.outcome(new_job(f"b{number}"))
            await asyncio.sleep(0.01)
        (raw,) = quarantined(one)
        assert "queue.expire_lease.v1" in raw and not one.observer.all("reopened")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("where", ["submission", "follow-up", "timer", "lease"])
async def test_what_the_broker_refuses_is_singled_out(where: str) -> None:
    """Not told which record it was, the owner decides one command per transaction until one is refused alone."""
    bad = new_job("bad")

    async def refuse(plan: Plan) -> None:
        for record in plan.records:
            mine = record.originator_id == bad or getattr(record.data, "job", "") == bad or where == "lease"
            if mine and isinstance(record.data, REFUSED[where]):
                raise RefusedRecordError("too large")

    async with MemoryOwner(lease_seconds=0.3) as one:
        one.feed(credits(QUEUE, 1), submit(new_job("first")))
        await one.outcome(new_job("first"))
        one.log.before_commit = refuse
        due = NOW + 1_000 if where == "timer" else None
        one.feed(*(submit(new_job(f"a{n}")) for n in range(20)))
        one.feed(submit(bad, due_at_ms=due), *(submit(new_job(f"b{n}")) for n in range(20)))
        one.beats.alive = where != "lease"
        for name in [f"{letter}{n}" for letter in "ab" for n in range(20)]:
            assert (await one.outcome(new_job(name))).status is OutcomeStatus.ACCEPTED
        one.clock.now = NOW + 2_000
        await wait_for(lambda: quarantined(one))
        await wait_for(lambda: at_rest(one))
        (raw,) = quarantined(one)
        expected = {
            "submission": "job.submit",
            "follow-up": "enqueue_task",
            "timer": "mark_due",
            "lease": "expire_lease",
        }
        assert expected[where] in raw
        assert (await one.outcome(bad)).status is (
            OutcomeStatus.REJECTED if where == "submission" else OutcomeStatus.ACCEPTED
        )


@pytest.mark.usefixtures("quick")
async def test_a_snapshot_that_is_too_large_is_found_by_deciding_alone(monkeypatch: Patch) -> None:
    """Its size shows when the whole batch is written down; in a batch of one there is nobody else to blame."""
    sized = Sizes.record

    def bounded(self: Sizes, value: bytes) -> bytes:
        if value.startswith(b"job/1|") and new_job("bad").encode() in value:
            raise OversizeError("too large")
        return sized(self, value)

    monkeypatch.setattr(Sizes, "record", bounded)
    async with MemoryOwner() as one:
        one.feed(*(submit(new_job(name)) for name in ("a", "b", "bad", "c")))
        for name in "abc":
            assert (await one.outcome(new_job(name))).status is OutcomeStatus.ACCEPTED
        assert (await one.outcome(new_job("bad"))).status is OutcomeStatus.REJECTED
        assert len(quarantined(one)) == 1
        assert new_job("bad") not in {record.originator_id for record in one.log.records}
