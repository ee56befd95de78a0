"""What the clients try again, how often and until when, without any server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import stamina

from jobledger import AsyncClient, BulkError, Client, JobSpec, NotFound, OutcomeUnknown, Unavailable
from jobledger.client.deadline import Deadline, NotDecided, pause_after
from jobledger.client.errors import ConnectionDropped

AWAY = Unavailable("nobody is there", "UNAVAILABLE")
DROPPED = ConnectionDropped("it broke", "UNAVAILABLE")
PENDING = {"__typename": "Pending", "jobId": "j"}
DONE = {"__typename": "CancelJobSuccess", "position": "", "job": {"status": "CANCELLED"}}
MISSING = {"__typename": "NotFound", "code": "NOT_FOUND", "message": "no such job"}


class Script:
    """A transport that answers, or raises, one thing after the other; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []

    def next(self, variables: Any) -> dict[str, Any]:
        self.sent.append(variables["input"])
        one = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(one, Exception):
            raise one
        return {"cancelJob": one, "submitJobs": one}


class AsyncScript(Script):
    async def execute(self, _query: str, variables: Any, _deadline: Any = None) -> dict[str, Any]:
        return self.next(variables)

    async def close(self) -> None:
        pass


class SyncScript(Script):
    def execute(self, _query: str, variables: Any, _deadline: Any = None) -> dict[str, Any]:
        return self.next(variables)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger.client.deadline.FIRST_PAUSE", 0.002)


@pytest.fixture(params=["asynchronous", "synchronous"])
def cancel(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Cancels a job with the answers given; what came of it, and what was sent."""

    async def one(*answers: Any, timeout: float = 0.1) -> tuple[Any, list[Any]]:
        if request.param == "asynchronous":
            client = AsyncClient("http://127.0.0.1:9", timeout=timeout)
            script: Any = AsyncScript(*answers)
            client.transport = script
            try:
                return await client.cancel("j"), script.sent
            except Exception as error:  # noqa: BLE001 - it is looked at
                return error, script.sent
        twin = Client("http://127.0.0.1:9", timeout=timeout)
        script = SyncScript(*answers)
        twin.transport = script
        try:
            return twin.cancel("j"), script.sent
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error, script.sent

    yield one


async def test_a_command_is_sent_again_under_its_id_until_it_is_decided(cancel: Any) -> None:
    status, sent = await cancel(AWAY, PENDING, DROPPED, DONE, timeout=5)
    assert status == "CANCELLED" and len(sent) == 4
    assert len({one["commandId"] for one in sent}) == 1
    error, sent = await cancel(AWAY, MISSING, timeout=5)
    assert isinstance(error, NotFound) and len(sent) == 2


async def test_at_the_deadline_it_is_unknown_only_if_the_command_may_have_been_taken(cancel: Any) -> None:
    begun = time.monotonic()
    error, sent = await cancel(AWAY)
    assert error is AWAY and len(sent) > 3
    for answers in ((DROPPED, AWAY), (PENDING, AWAY), (PENDING,)):
        error, sent = await cancel(*answers)
        assert isinstance(error, OutcomeUnknown) and error.command_id == sent[0]["commandId"]
        assert error.job_id == ("j" if PENDING in answers else None)
    assert time.monotonic() - begun < 4 * 0.1 + 1


async def test_of_a_bulk_only_what_is_not_decided_is_sent_again() -> None:
    half = {
        "__typename": "SubmitJobsSuccess",
        "position": "",
        "jobIds": ["a", "b"],
        "duplicateIndexes": [],
        "problems": [{"index": 1, "error": None}],
    }
    rest = {**half, "jobIds": ["b"], "problems": []}
    client = AsyncClient("http://127.0.0.1:9", timeout=5)
    script: Any = AsyncScript(half, AWAY, rest)
    client.transport = script
    jobs = await client.submit_many([JobSpec(handler="echo", payload=1), JobSpec(handler="echo", payload=2)])
    assert [job.id for job in jobs] == ["a", "b"]
    assert [len(sent) for sent in script.sent] == [2, 1, 1]
    assert script.sent[0][1]["commandId"] == script.sent[2][0]["commandId"]

    client.timeout = 0.05
    client.transport = script = AsyncScript(half, {**half, "jobIds": [None], "problems": [{"index": 0, "error": None}]})
    with pytest.raises(BulkError) as caught:
        await client.submit_many([JobSpec(handler="echo", payload=1), JobSpec(handler="echo", payload=2)])
    assert list(caught.value.errors) == [1] and isinstance(caught.value.errors[1], OutcomeUnknown)


def test_pauses_double_and_none_leads_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger.client.deadline.FIRST_PAUSE", 0.1)
    pause = pause_after(Unavailable, Deadline(100))
    assert [pause(NotDecided()) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert pause(ValueError()) is False
    assert pause_after(Unavailable, Deadline(0.05))(AWAY) is False
    assert pause_after(Unavailable, Deadline(None))(AWAY) == 0.1


async def test_whoever_switches_retries_off_switches_ours_off(cancel: Any) -> None:
    stamina.set_active(False)
    try:
        error, sent = await cancel(AWAY, DONE, timeout=5)
    finally:
        stamina.set_active(True)
    assert error is AWAY and len(sent) == 1
