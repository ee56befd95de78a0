"""What a client has been told it also reads, however far the read model is behind."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from client_stack import Stack

from jobledger import AsyncClient, BulkError, Client, JobSpec, JobStatus, WaitTimeout
from jobledger.client import ReadModelBehind

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


async def _held_back(stack: Stack, write: Callable[[], Awaitable[Any]], read: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `read` says after `write`, while the projector stood still: nothing before it goes on."""
    with stack.stopped("projector"):
        written = await write()
        reading = asyncio.ensure_future(read(written))
        done, _ = await asyncio.wait({reading}, timeout=1.0)
        assert not done, f"read {reading.result()!r} from a read model that had not seen the write"
    return await reading


async def test_reads_wait_for_all_that_the_client_was_told(client: AsyncClient, stack: Stack) -> None:
    """A cancel, a bulk and a new queue, read by id, by list and by another handle of the same client."""
    job = await client.submit("noop", in_="1h")
    assert await job.status() is JobStatus.SCHEDULED
    assert await _held_back(stack, job.cancel, lambda _: client.job(job.id).status()) is JobStatus.CANCELLED

    async def bulk() -> list[Any]:
        return await client.submit_many(JobSpec(handler="noop", in_="1h", tags={"bulk": "1"}) for _ in range(20))

    page = await _held_back(stack, bulk, lambda _: client.jobs(tags={"bulk": "1"}))
    assert len(page.jobs) == 20
    views = await _held_back(stack, bulk, lambda jobs: asyncio.gather(*(client.job(job.id).view() for job in jobs)))
    assert {view.status for view in views} == {JobStatus.SCHEDULED}
    queues = await _held_back(stack, lambda: client.create_queue("later"), lambda _: client.queues())
    assert "later" in {queue.name for queue in queues}


async def test_the_synchronous_client_keeps_the_promise_too(stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.submit("noop", in_="1h")
        seen = await _held_back(
            stack, lambda: asyncio.to_thread(job.cancel), lambda _: asyncio.to_thread(client.job(job.id).status)
        )
        assert seen is JobStatus.CANCELLED


async def test_a_read_model_that_stays_behind_is_said_and_so_is_a_wait(stack: Stack) -> None:
    async with AsyncClient(stack.url, timeout=8.0) as client:
        with stack.stopped("projector"):
            job = await client.submit("noop", in_="1h")
            with pytest.raises(ReadModelBehind):
                await client.retrying(job.view, 0.1)
            with pytest.raises(
                WaitTimeout, match=rf"{job.id} has not ended after 0\.5 s; its status could not be read"
            ):
                await job.wait(0.5)
        assert await job.status() is JobStatus.SCHEDULED
        with pytest.raises(TimeoutError, match=rf"{job.id} has not ended after 4 s; its status is SCHEDULED"):
            await job.result(4)


async def test_ends_of_many_jobs_come_in_their_order(client: AsyncClient, stack: Stack) -> None:
    """By both clients: what ended before, what ends while it is waited for, failures too; then a time-out."""
    early = await client.submit("square", 3)
    assert await early.result(timeout=30) == 9
    late = await client.submit("square", 4, in_="2s")
    hopeless = await client.submit("hopeless", in_="1s")
    jobs = [late, hopeless, early, client.job(early.id)]
    ended = [job.id async for job in client.as_completed(jobs, timeout=60)]
    assert ended == [early.id, early.id, hopeless.id, late.id]

    def synchronous() -> list[Any]:
        with Client(stack.url) as twin:
            with ThreadPoolExecutor(8) as pool:  # one client, many threads
                assert list(pool.map(lambda n: twin.run("square", n, wait_timeout=60), range(40))) == [
                    n * n for n in range(40)
                ]
            many = twin.submit_many([JobSpec(handler="square", payload=n) for n in range(150)])
            assert twin.run("square", 12, wait_timeout=60) == 144
            return sorted(job.result(timeout=60) for job in twin.as_completed(many, timeout=60))

    assert await asyncio.to_thread(synchronous) == sorted(n * n for n in range(150))
    never = await client.submit("noop", in_="1h")
    with pytest.raises(WaitTimeout, match=f"{never.id} has not ended after 4 s; its status is SCHEDULED"):
        _ = [job async for job in client.as_completed([early, never], timeout=4)]


async def test_null_is_a_payload(client: AsyncClient, stack: Stack) -> None:
    """By the client and by the command line; without a payload it is an empty object."""
    assert (await (await client.submit("noop", None, in_="1h")).view()).payload is None
    assert (await (await client.submit("noop", in_="1h")).view()).payload == {}
    command = [sys.executable, "-m", "jobledger.cli", "submit", "noop", "--payload", "null", "--in", "1h"]
    process = await asyncio.create_subprocess_exec(
        *command, "--output", "json", "--api-url", stack.url, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    submitted = json.loads(answer)
    assert (await client.job_view(submitted["jobId"], submitted["position"])).payload is None


async def test_bulks_tell_duplicates_and_keep_the_handles_of_what_went(client: AsyncClient, stack: Stack) -> None:
    """Item by item: a key that was used, bad input found here, bad input found there, an api that goes away.

    The last of the file: its api stays away.
    """
    specs = [JobSpec(handler="square", payload=n, idempotency_key=f"key-{n}") for n in range(3)]
    first = await client.submit_many(specs[:2])
    again = await client.submit_many(specs)
    assert [job.duplicate for job in again] == [True, True, False]
    assert [job.id for job in again[:2]] == [job.id for job in first]
    wrong: list[Any] = [
        JobSpec(handler="square", payload=object()),
        JobSpec(handler="square", payload=7),
        JobSpec(handler="square", payload=7, queue="nowhere"),
        "square",
    ]
    with pytest.raises(BulkError) as partly:
        await client.submit_many(wrong)
    assert sorted(partly.value.errors) == [0, 2, 3]
    assert await partly.value.jobs[1].result(timeout=30) == 49

    def parts() -> Any:
        """The api goes away between the first request and the second one."""
        for n in range(1_001):
            yield JobSpec(handler="noop", payload=n)
        stack.processes["api"].kill()  # the first thousand has gone when this one is asked for
        stack.processes["api"].wait()
        yield JobSpec(handler="noop", payload="last")

    async with AsyncClient(stack.url, timeout=12.0) as short:
        with pytest.raises(BulkError) as lost:
            await short.submit_many(parts())
    assert all(job is not None for job in lost.value.jobs[:1_000])
    assert sorted(lost.value.errors) == [1_000, 1_001]
