from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from sample_handlers import ATTEMPTS, Email, echo, flaky, hopeless, noop, sleepy, square, steps, unserialisable

from jobledger import JobCancelled, JobFailed, RetryPolicy
from jobledger.domain.job_state import JobStatus
from jobledger.testing import inline
from jobledger.workers.client import AlreadyEnded, IdempotencyKeyReused, InvalidInput, JobSpec

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


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
        with pytest.raises(AlreadyEnded):
            job.cancel()
        assert job.attempts == 0


def test_async_time_out_is_real() -> None:
    with inline() as client:
        job = client.submit(sleepy, 30, timeout="50ms", retry=1)
        with pytest.raises(JobFailed, match=r"limit of 0\.05 s"):
            job.result()


def test_idempotency_key_gives_the_first_job() -> None:
    with inline() as client:
        first = client.submit(square, 3, idempotency_key="k")
        assert client.submit(square, 3, idempotency_key="k") is first
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
