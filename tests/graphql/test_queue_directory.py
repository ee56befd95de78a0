"""Whether a queue exists and is full is told by memory, or by its owner: submissions do not wait for Postgres."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from memory_owner import Decider, command, job, submit
from pydantic import SecretStr

from jobledger.domain.queue.commands import CreateQueue, QueryQueue
from jobledger.graphql.directory import QueueDirectory, QueueUnknownError
from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError
from jobledger.projections.rows import QueueRow
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome


class Owners:
    """The product's machine on a partition in memory, asked as the owners of queues are; `silent`: nobody is there."""

    def __init__(self) -> None:
        self.decider = Decider()
        self.asked: list[str] = []
        self.silent = False
        self.answering = asyncio.Event()
        self.answering.set()
        self._jobs = 0

    def create(self, stream: str, max_waiting_bytes: int) -> None:
        self._decide(command(stream, CreateQueue(max_waiting_bytes=max_waiting_bytes), f"create {stream}"))

    def submit(self, queue: str, payload_bytes: int) -> None:
        """A job of tenant t with a payload of that size; nobody runs it."""
        self._jobs += 1
        stream = job(f"j{self._jobs}").replace("job:default:", "job:t:")
        self._decide(submit(stream, queue=queue, payload='"' + "x" * (payload_bytes - 2) + '"'))

    async def ask(self, stream: str, body: QueryQueue, command_id: str, timeout: float) -> Outcome | None:
        self.asked.append(stream)
        await self.answering.wait()
        return None if self.silent else self._decide(command(stream, body, command_id))

    def _decide(self, one: Command) -> Outcome:
        self.decider.feed(one)
        self.decider.settle()
        return next(outcome for outcome in reversed(self.decider.outcomes) if outcome.command_id == one.id)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def away(tenant: str, name: str) -> QueueRow | None:
    """A read model that cannot be reached, as it tells after two seconds: nobody waits for that."""
    await asyncio.sleep(2)
    raise ReadModelUnavailableError("away")


Directory = tuple[Owners, Clock, QueueDirectory]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.setattr("jobledger.graphql.directory.READ_MODEL_SECONDS", 0.05)  # still much less than it takes
    owners, clock = Owners(), Clock()
    owners.create("queue:t:q", 1_000)
    owners.submit("q", 10)
    return owners, clock, QueueDirectory(away, owners.ask, lambda: "id", clock)


async def test_a_known_queue_is_told_without_waiting_for_anything(directory: Directory) -> None:
    """What waits in it is looked up meanwhile, once for all that ask, and nothing that was let in is forgotten."""
    owners, clock, found = directory
    known = await found.find("t", "q")
    assert known is not None and (known.waiting_bytes, known.max_waiting_bytes) == (10, 1_000)
    clock.now += 5
    owners.answering.clear()
    for _ in range(50):
        assert await asyncio.wait_for(found.find("t", "q"), 0.001) is known
    assert len(found._looking) == 1
    async with asyncio.timeout(10):
        while len(owners.asked) < 2:  # noqa: ASYNC110 - it is a plain list
            await asyncio.sleep(0.01)
    known.let_in(7)
    owners.submit("q", 490)
    owners.answering.set()
    await asyncio.gather(*found._looking.values())
    assert known.waiting_bytes == 507
    owners.silent, clock.now = True, clock.now + 5
    assert await found.find("t", "q") is known
    await found.stop()


async def test_a_queue_that_does_not_exist_is_asked_for_once_in_a_while(directory: Directory) -> None:
    owners, clock, found = directory
    assert [await found.find("t", "none") for _ in range(20)] == [None] * 20
    assert len(owners.asked) == 1
    clock.now += 2
    owners.create("queue:t:none", 1_000)
    assert await found.find("t", "none") is not None
    await found.stop()


async def test_only_an_unknown_name_whose_owner_is_away_cannot_be_told(directory: Directory) -> None:
    """The default queue needs no answer: it comes into being when it is used."""
    owners, _, found = directory
    owners.silent = True
    with pytest.raises(QueueUnknownError):
        await found.find("t", "q")
    assert await found.find("t", "default") is not None
    await found.stop()


@pytest.mark.kafka
@pytest.mark.postgres
async def test_submissions_do_not_wait_for_postgres(
    shared_system: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that Postgres is asked comes back: default queue, named queue, a name that does not exist, a bulk."""
    await api.ask('mutation { createQueue(input: {name: "mail"}) { __typename } }')
    answers = asyncio.Event()
    asked = 0

    async def never(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        await answers.wait()
        raise ReadModelUnavailableError("away")

    second = await shared_system.api()
    monkeypatch.setattr(ReadModel, "_fetch", never)
    await _submissions(second, "nothing of Postgres answers")
    assert asked > 0, "the read model was not asked at all: nothing is shown"
    answers.set()


@pytest.mark.kafka
@pytest.mark.postgres
async def test_an_api_that_starts_without_postgres_takes_submissions(shared_system: Any, api: Any) -> None:
    await api.ask('mutation { createQueue(input: {name: "mail"}) { __typename } }')
    await _submissions(api, "with Postgres")
    second = await shared_system.api(postgres_dsn=SecretStr("postgresql://127.0.0.1:1/none"))
    await _submissions(second, "without Postgres")


async def _submissions(api: Any, what: str) -> None:
    query = (
        "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { ... on SubmitJobsSuccess { accepted } } }"
    )
    took: list[float] = []
    for number in range(60):
        began = time.perf_counter()
        assert (await api.submit())["__typename"] == "SubmitJobSuccess"
        assert (await api.submit(queue="mail"))["__typename"] == "SubmitJobSuccess"
        took.append(time.perf_counter() - began)
        if number % 20 == 0:
            assert (await api.submit(queue="absent"))["code"] == "UNKNOWN_QUEUE"
    answer = await api.ask(query, {"input": [{"handler": "work", "queue": "mail"}] * 50})
    assert answer["submitJobs"]["accepted"] == 50
    took.sort()
    p50, p95, most = (round(took[place] * 1000) for place in (30, 56, 59))
    print(f"{what}: two submissions p50 {p50} ms, p95 {p95} ms, most {most} ms")
