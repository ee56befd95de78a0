"""Whether a queue exists and is full is told by memory and by its owner: submissions do not need Postgres."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from jobledger.domain.queue_commands import QueryQueue
from jobledger.domain.values import Code, Opaque, Rejection
from jobledger.graphql.directory import QueueDirectory, QueueUnknownError
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.outcomes import Outcome, OutcomeStatus


class Owners:
    """Answers as the owners of queues do; `silent`: not at all."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, int]] = {}
        self.asked: list[str] = []
        self.silent = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def ask(self, stream: str, body: QueryQueue, command_id: str, timeout: float) -> Outcome | None:
        self.asked.append(stream)
        await self.answering.wait()
        if self.silent:
            return None
        found = self.queues.get(stream)
        outcome = Outcome(
            command_id=command_id, stream=stream, status=OutcomeStatus.ACCEPTED, partition=0, seq=1, at_ms=1
        )
        if found is None:
            rejection = Rejection(code=Code.NOT_FOUND_OR_EXPIRED, message="No queue.")
            return msgspec.structs.replace(outcome, status=OutcomeStatus.REJECTED, rejection=rejection)
        return msgspec.structs.replace(outcome, answer=Opaque(msgspec.json.encode(found).decode()))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def directory() -> tuple[Owners, Clock, QueueDirectory]:
    owners, clock = Owners(), Clock()
    owners.queues["queue:t:q"] = {"waiting_bytes": 10, "max_waiting_bytes": 1_000}
    return owners, clock, QueueDirectory(owners.ask, lambda: "id", clock)


async def test_a_known_queue_is_told_without_waiting_for_anything() -> None:
    """What waits in it is looked up meanwhile, once for all that ask, and nothing that was let in is forgotten."""
    owners, clock, found = directory()
    known = await found.find("t", "q")
    assert known is not None and (known.waiting_bytes, known.max_waiting_bytes) == (10, 1_000)
    clock.now += 5
    owners.answering.clear()
    for _ in range(50):
        assert await asyncio.wait_for(found.find("t", "q"), 0.001) is known
    await asyncio.sleep(0)
    assert len(owners.asked) == 2
    known.let_in(7)
    owners.queues["queue:t:q"]["waiting_bytes"] = 500
    owners.answering.set()
    await asyncio.gather(*found._looking.values())
    assert known.waiting_bytes == 507
    owners.silent, clock.now = True, clock.now + 5
    assert await found.find("t", "q") is known
    await found.stop()


async def test_a_queue_that_does_not_exist_is_asked_for_once_in_a_while() -> None:
    owners, clock, found = directory()
    assert [await found.find("t", "none") for _ in range(20)] == [None] * 20
    assert len(owners.asked) == 1
    clock.now += 2
    owners.queues["queue:t:none"] = {"waiting_bytes": 0}
    assert await found.find("t", "none") is not None
    await found.stop()


async def test_only_an_unknown_name_whose_owner_is_away_cannot_be_told() -> None:
    """The default queue needs no answer: it comes into being when it is used."""
    owners, _, found = directory()
    owners.silent = True
    with pytest.raises(QueueUnknownError):
        await found.find("t", "q")
    assert await found.find("t", "default") is not None
    await found.stop()


@pytest.mark.kafka
@pytest.mark.postgres
async def test_submissions_do_not_touch_postgres(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Postgres out of reach from the start: default queue, named queue, a name that does not exist, a bulk."""

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a submission has asked Postgres")

    first = await system.api()
    await first.ask('mutation { createQueue(input: {name: "mail"}) { __typename } }')
    monkeypatch.setattr(ReadModel, "_connection", asked)
    monkeypatch.setattr(ReadModel, "_fetch", asked)
    api = await system.api(postgres_dsn="postgresql://127.0.0.1:1/none")
    bulk = (
        "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { ... on SubmitJobsSuccess { accepted } } }"
    )
    took = []
    for _ in range(30):
        began = time.perf_counter()
        assert (await api.submit())["__typename"] == "SubmitJobSuccess"
        assert (await api.submit(queue="mail"))["__typename"] == "SubmitJobSuccess"
        assert (await api.submit(queue="absent"))["code"] == "UNKNOWN_QUEUE"
        took.append(time.perf_counter() - began)
    answer = await api.ask(bulk, {"input": [{"handler": "work", "queue": "mail"}] * 50})
    assert answer["submitJobs"]["accepted"] == 50
    print(f"three submissions: median {sorted(took)[15] * 1000:.0f} ms, most {max(took) * 1000:.0f} ms")
