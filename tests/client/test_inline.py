from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sample_handlers import ATTEMPTS, Email, echo, flaky, hopeless, noop, sleepy, square, steps, unserialisable

from jobledger import (
    BulkError,
    Context,
    InvalidState,
    JobCancelled,
    JobFailed,
    NotFound,
    ResultMismatch,
    Retry,
    RetryPolicy,
    handler,
)
from jobledger.client import AlreadyEnded, AlreadyExists, IdempotencyKeyReused, InvalidInput, JobSpec
from jobledger.domain.job.state import JobStatus
from jobledger.testing import inline

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Receipt(BaseModel):
    to: str
    at: datetime


@handler("receipt")
async def receipt(payload: Email) -> Receipt:
    return Receipt(to=payload.to, at=START)


@handler("liar")
async def liar(payload: dict[str, Any]) -> int:
    return "five"  # type: ignore[return-value]


@handler("anything")
async def anything(payload: Any) -> dict[str, Any]:
    return {"got": payload}


def test_plain_and_async_handlers_run_in_process() -> None:
    with inline() as client:
        assert client.submit(square, 7).result() == 49
        assert client.submit(echo, Email(to="a@b")).result()["to"] == "a@b"
        assert client.submit(noop, {}).result() is None


def test_retries_follow_the_policy_in_virtual_time() -> None:
    """Two failures, then success: three attempts, and the clock has moved by the back-off, not the test."""
    ATTEMPTS.clear()
    with inline(start=START) as client:
        job = client.submit(flaky, 2, retry=RetryPolicy(max_attempts=3, initial_seconds=60, jitter_ratio=0))
        assert job.result() == 3
        assert ATTEMPTS == [1, 2, 3]
        assert client.now == START + timedelta(seconds=60 + 120)
        assert job.attempts == 3


def test_last_failure_is_raised() -> None:
    with inline() as client:
        job = client.submit(flaky, 9, retry=2)
        with pytest.raises(JobFailed, match="attempt 2 has no luck") as caught:
            job.result()
        assert (caught.value.error_type, caught.value.attempts) == ("Retry", 2)
        assert job.status() is JobStatus.DEAD_LETTERED


class CardDeclinedError(Exception):
    pass


class CardExpiredError(CardDeclinedError):
    pass


@handler("charge", timeout="30s", retry=RetryPolicy(max_attempts=5, give_up_on=[CardDeclinedError]))
def charge(payload: int, ctx: Context) -> int:
    if ctx.attempt <= payload:
        raise Retry("the bank is closed", after="30m")
    raise CardExpiredError("2019")


def test_a_declared_policy_and_a_wait_that_the_handler_asks_for() -> None:
    """The handler waits as it says, and gives up on an error that is derived from one that its policy names."""
    with inline(start=START) as client:
        job = client.submit(charge, 2)
        with pytest.raises(JobFailed, match="2019") as caught:
            job.result()
        assert (caught.value.error_type, caught.value.attempts) == ("CardExpiredError", 3)
        assert client.now == START + timedelta(minutes=60)


def test_what_is_given_at_submission_goes_before_what_is_declared() -> None:
    """The policy goes with the submission; a number of attempts changes that alone."""
    declared = JobSpec(handler=charge, payload=1).as_input()
    assert (declared["retry"]["maxAttempts"], declared["timeoutSeconds"]) == (5, 30.0)
    assert declared["retry"]["giveUpOn"] == ["CardDeclinedError"]
    assert JobSpec(handler=charge, payload=1, retry=2).as_input()["retry"]["giveUpOn"] == ["CardDeclinedError"]
    given = JobSpec(handler=charge, payload=1, retry=RetryPolicy(max_attempts=9), timeout=5).as_input()
    assert (given["retry"]["maxAttempts"], given["timeoutSeconds"]) == (9, 5.0)
    assert "giveUpOn" not in given["retry"]


@pytest.mark.parametrize(("handler", "error_type"), [(hopeless, "NonRetryable"), (unserialisable, "ResultError")])
def test_what_is_not_retryable_fails_at_once(handler: object, error_type: str) -> None:
    with inline() as client:
        job = client.submit(handler)  # type: ignore[arg-type]
        with pytest.raises(JobFailed) as caught:
            job.result()
        assert caught.value.error_type == error_type
        assert job.attempts == 1


def test_checkpoint_survives_the_retry() -> None:
    """The second attempt goes on from what the first one saved."""
    with inline() as client:
        job = client.submit(steps, 6)
        assert job.result() == [0, 1, 2, 3, 4, 5]
        assert job.attempts == 2
        assert job.last_checkpoint == [0, 1, 2, 3, 4, 5]


def test_later_jobs_wait_for_the_clock() -> None:
    with inline(start=START) as client:
        job = client.submit(square, 3, in_="10m")
        assert client.run_due() == 0
        assert job.status() is JobStatus.SCHEDULED
        assert client.advance("9m59s") == 0
        assert client.advance(1) == 1
        assert job.result() == 9


def test_cancelled_job_never_runs() -> None:
    with inline() as client:
        job = client.submit(square, 3)
        assert job.cancel("no more") is JobStatus.CANCELLED
        with pytest.raises(JobCancelled):
            job.result()
        with pytest.raises(AlreadyEnded) as ended:
            job.cancel()
        assert ended.value.status is JobStatus.CANCELLED
        assert job.attempts == 0


def test_async_time_out_is_real() -> None:
    with inline() as client:
        job = client.submit(sleepy, 30, timeout="50ms", retry=1)
        with pytest.raises(JobFailed, match=r"limit of 0\.05 s"):
            job.result()


def test_idempotency_key_gives_the_first_job() -> None:
    with inline() as client:
        first = client.submit(square, 3, idempotency_key="k")
        again = client.submit(square, 3, idempotency_key="k")
        assert (again.id, again.duplicate, first.duplicate) == (first.id, True, False)
        with pytest.raises(IdempotencyKeyReused):
            client.submit(square, 4, idempotency_key="k")


def test_bad_input_is_refused_as_by_the_api() -> None:
    with inline(square) as client:
        assert client.submit("square", 2).result() == 4
        assert [job.result() for job in client.submit_many([JobSpec(handler=square, payload=n) for n in (1, 2)])] == [
            1,
            4,
        ]
        for wrong in (
            {"priority": 9},
            {"at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is wrong with it
            {"in_": "soon"},
            {"payload": object()},
        ):
            with pytest.raises(InvalidInput):
                client.submit("square", **wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="No handler 'cube'"):
            client.submit("cube", 2)


async def test_works_inside_an_async_test() -> None:
    with inline() as client:
        assert client.submit(sleepy, 0).result() == "slept"
    await asyncio.sleep(0)


def test_a_job_shows_what_the_real_client_shows() -> None:
    """Views, public events, tags, null payloads; a wait moves the clock."""
    ATTEMPTS.clear()
    with inline(start=START) as client:
        job = client.submit(flaky, 1, retry=2, tags={"team": "x"}, in_="1h")
        assert job.view().status is JobStatus.SCHEDULED
        view = job.wait(timeout=5)
        assert (view.status, view.result, view.attempt, view.tags) == (JobStatus.SUCCEEDED, 2, 2, {"team": "x"})
        assert (view.error_type, view.error) == ("", "")
        assert view.submitted_at == START
        assert view.ended_at == client.now
        events = list(job.events())
        assert [event.type.removeprefix("io.jobledger.") for event in events] == [
            "job.submitted.v1",
            "task.ready.v1",
            "task.started.v1",
            "task.failed.v1",
            "task.ready.v1",
            "task.started.v1",
            "task.succeeded.v1",
            "job.succeeded.v1",
        ]
        assert [event.version for event in events] == list(range(1, 9))
        assert events[-1].status is JobStatus.SUCCEEDED
        assert events[0].data["handler"] == "flaky"
        assert list(job.events(after=events[5].position)) == events[6:]
        assert client.submit(anything, None).view().payload is None
        assert client.submit(anything, None).result() == {"got": None}
        assert client.submit("anything").result() == {"got": {}}


def test_events_run_the_job_to_its_end() -> None:
    with inline() as client:
        assert [event.status for event in client.submit(hopeless).events()][-1] is JobStatus.DEAD_LETTERED


def test_jobs_are_listed_cancelled_and_awaited_as_by_the_client() -> None:
    with inline(square) as client:
        late, soon = client.submit(square, 2, in_="2h"), client.submit(square, 3, in_="1h", tags={"a": "b"})
        assert [job.id for job in client.as_completed([late, soon])] == [soon.id, late.id]
        jobs = client.submit_many([JobSpec(handler=square, payload=n) for n in range(5)])
        assert client.cancel(jobs[0].id) is JobStatus.CANCELLED
        page = client.jobs(status=["CANCELLED"])
        assert ([job.id for job in page.jobs], page.cursor) == ([jobs[0].id], None)
        assert [job.id for job in client.jobs(tags={"a": "b"}).jobs] == [soon.id]
        first = client.jobs(first=4)
        assert len(client.jobs(first=4, after=first.cursor).jobs) == 3
        assert client.run(square, 12) == 144
        with pytest.raises(NotFound):
            client.job("01990000-0000-7000-8000-000000000000").view()
        with pytest.raises(BulkError) as partly:
            client.submit_many([JobSpec(handler="cube"), JobSpec(handler=square, payload=5)])
        assert (list(partly.value.errors), partly.value.jobs[1].result()) == ([0], 25)
        client.create_queue("mail")
        with pytest.raises(AlreadyExists):
            client.create_queue("mail")
        assert [queue.name for queue in client.queues()] == ["default", "mail"]


def test_a_command_id_stands_for_one_job() -> None:
    one = "01990000-0000-7000-8000-000000000000"
    with inline() as client:
        first = client.submit(square, 2, command_id=one)
        assert client.submit(square, 2, command_id=one).duplicate
        assert first.id == one
        with pytest.raises(IdempotencyKeyReused, match="command_id"):
            client.submit(square, 3, command_id=one)
        with pytest.raises(InvalidInput, match="Expected a UUIDv7"):
            client.submit(square, 3, command_id="6f1d1d2c-6f5b-5c0a-9f4e-2d1c7e0b5a41")


async def test_the_asynchronous_twin_runs_handlers_in_the_loop_of_the_test() -> None:
    """An event of this loop, which a loop in another thread could not wait for."""
    gate = asyncio.Event()

    @handler("gated")
    async def gated(payload: int) -> int:
        await gate.wait()
        return payload + 1

    async with inline() as client:
        job = await client.submit(gated, 1)
        first, second = asyncio.ensure_future(job.result()), asyncio.ensure_future(client.job(job.id).result())
        while await job.status() is not JobStatus.RUNNING:  # noqa: ASYNC110 - what is shown is what is asked
            await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(first, second) == [2, 2]
        assert job.attempts == 1
        assert [event.version async for event in job.events()] == [1, 2, 3, 4, 5]
        ended = [one.id async for one in client.as_completed([job, await client.submit(square, 3)])]
        assert len(ended) == 2
        assert await client.run(square, 4) == 16


async def test_a_running_handler_is_cancelled() -> None:
    async with inline() as client:
        job = await client.submit(sleepy, 60)
        waiting = asyncio.ensure_future(job.wait())
        while await job.status() is not JobStatus.RUNNING:  # noqa: ASYNC110 - what is shown is what is asked
            await asyncio.sleep(0)
        assert await job.cancel("no more") is JobStatus.CANCELLING
        view = await waiting
        assert (view.status, view.cancel_reason) == (JobStatus.CANCELLED, "no more")


def test_results_are_of_the_type_that_the_handler_declares() -> None:
    with inline() as client:
        job = client.submit(receipt, Email(to="a@b"))
        assert job.result() == Receipt(to="a@b", at=START)
        assert job.view().result == {"to": "a@b", "at": "2026-03-01T12:00:00Z"}
        assert client.job(job.id).result() == {"to": "a@b", "at": "2026-03-01T12:00:00Z"}
        lying = client.submit(liar, {})
        with pytest.raises(ResultMismatch, match="'liar' declares to return: result: Input should be a valid integer"):
            lying.result()


def test_a_dead_letter_is_run_again_or_closed() -> None:
    """Under the same id, with all its attempts; only a dead letter can be."""
    ATTEMPTS.clear()
    with inline() as client:
        job = client.submit(flaky, 1, retry=1)
        with pytest.raises(InvalidState):
            job.redrive()
        assert job.wait().status is JobStatus.DEAD_LETTERED
        assert job.redrive("the bank is open") is JobStatus.QUEUED
        assert (job.view().dead_letter_cause, job.view().error_type) == ("", "")
        assert job.wait().status is JobStatus.DEAD_LETTERED
        assert client.discard(job.id) is JobStatus.DISCARDED
        with pytest.raises(AlreadyEnded) as ended:
            job.redrive()
        assert ended.value.status is JobStatus.DISCARDED
        assert [event.type.removeprefix("io.jobledger.job.") for event in job.history()][-1] == "discarded.v1"
