"""What type checkers see of the client: read by mypy (`make lint`), never run.

Each `type: ignore` names an error that has to be there: mypy complains about those that are not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from jobledger import AsyncClient, AsyncJob, Client, Context, Job, JobSpec, JobView, handler
from jobledger.testing import AsyncInlineJob, InlineJob, inline


@dataclass
class Email:
    to: str


@dataclass
class Receipt:
    at: float


@handler("send_email")
async def send_email(payload: Email, ctx: Context) -> Receipt:
    return Receipt(at=float(ctx.attempt))


@handler("square", run_in="thread")
def square(payload: int) -> int:
    return payload * payload


@handler("count")
def count(payload: dict[str, Any]) -> list[int]:
    return [len(payload)]


@handler("clean_up")
async def clean_up(ctx: Context) -> bool:
    return ctx.attempt > 0


@handler("tick")
def tick() -> str:
    return "tock"


async def asynchronous(client: AsyncClient) -> None:
    job = await client.submit(send_email, Email("a@b"), retry=5, tags={"team": "x"})
    assert_type(job, AsyncJob[Receipt])
    assert_type(await job.result(), Receipt)
    assert_type(await job.wait(), JobView)
    assert_type(await client.submit(send_email, {"to": "a@b"}), AsyncJob[Receipt])
    assert_type(await client.submit(square, 3), AsyncJob[int])
    assert_type(await client.submit(clean_up), AsyncJob[bool])
    assert_type(await client.submit(tick), AsyncJob[str])
    assert_type(await client.submit("by_name", 5), AsyncJob[Any])
    assert_type(await client.run(send_email, Email("a@b"), wait_timeout=30, in_="5m"), Receipt)
    assert_type(await client.run(count, {"a": 1}), list[int])
    async for done in client.as_completed([job, job], timeout=5):
        assert_type(done, AsyncJob[Receipt])
    await client.submit(square, "three")  # type: ignore[arg-type]
    await client.submit(send_email, 5)  # type: ignore[arg-type]
    await client.submit(send_email)  # type: ignore[arg-type]
    await client.submit(square, 3, priorty=1)  # type: ignore[call-overload]
    await client.submit(square, 3, retry="often")  # type: ignore[call-overload]
    await client.run(square, None)  # type: ignore[arg-type]


def synchronous(client: Client) -> None:
    job = client.submit(send_email, Email("a@b"), timeout="30s")
    assert_type(job, Job[Receipt])
    assert_type(job.result(timeout=5), Receipt)
    assert_type(client.run(square, 3), int)
    assert_type(client.run(clean_up), bool)
    assert_type(client.submit_many([JobSpec(handler=square, payload=1)]), list[Job[Any]])
    for done in client.as_completed([client.submit(square, 1)]):
        assert_type(done, Job[int])
    client.run(square, [3])  # type: ignore[arg-type]


async def inlined() -> None:
    with inline() as client:
        assert_type(client.submit(square, 3), InlineJob[int])
        assert_type(client.run(send_email, {"to": "a@b"}), Receipt)
        client.submit(square, "3")  # type: ignore[arg-type]
    async with inline(square) as other:
        assert_type(await other.submit(tick), AsyncInlineJob[str])
        assert_type(await other.run(send_email, Email("a@b")), Receipt)
