"""What of a job and its handler is sent to the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from jobledger import JobSpec, RetryPolicy, handler
from jobledger.client.bulk import MAX_BULK_BYTES, Bulk
from jobledger.client.errors import InvalidInput


@handler("declared", timeout="90s")
async def declared(payload: dict[str, Any]) -> None: ...


@handler("plain")
async def plain(payload: dict[str, Any]) -> None: ...


declared.retry = RetryPolicy(max_attempts=5, initial_seconds=7, give_up_on=("CardDeclined",))


def _sent(**given: Any) -> dict[str, Any]:
    return JobSpec(**{"handler": declared, **given}).as_input()


def test_what_a_handler_declares_is_sent_with_its_jobs() -> None:
    sent = _sent()
    assert sent["timeoutSeconds"] == 90
    assert sent["retry"] == {
        "maxAttempts": 5,
        "initialSeconds": 7,
        "factor": 2.0,
        "maxSeconds": 300.0,
        "jitterRatio": 0.1,
        "giveUpOn": ["CardDeclined"],
    }
    for spec in (JobSpec(handler="declared"), JobSpec(handler=plain)):  # by name nothing is known
        assert not {"timeoutSeconds", "retry"} & spec.as_input().keys()


def test_what_submit_is_given_goes_before_what_the_handler_declares() -> None:
    """A number changes the attempts of the declared policy and leaves the rest of it."""
    assert _sent(timeout=5)["timeoutSeconds"] == 5
    assert _sent(retry=RetryPolicy(max_attempts=2))["retry"]["initialSeconds"] == 1.0
    fewer = _sent(retry=2)["retry"]
    assert (fewer["maxAttempts"], fewer["initialSeconds"], fewer["giveUpOn"]) == (2, 7, ["CardDeclined"])
    assert _sent(handler=plain, retry=2)["retry"]["maxAttempts"] == 2


def test_payloads_are_text_and_null_is_one() -> None:
    assert _sent()["payloadText"] == "{}"
    assert _sent(payload=None)["payloadText"] == "null"
    assert _sent(payload={"a": [1, "ü"], "at": datetime(2026, 1, 1, tzinfo=UTC)})["payloadText"] == (
        '{"a":[1,"ü"],"at":"2026-01-01T00:00:00Z"}'
    )


def test_times_keep_their_zone() -> None:
    at = datetime(2026, 1, 31, 9, tzinfo=timezone(timedelta(hours=1)))
    assert _sent(at=at)["at"] == "2026-01-31T09:00:00+01:00"
    assert _sent(in_="1h30m")["delaySeconds"] == 5400
    assert _sent(in_=timedelta(minutes=1))["delaySeconds"] == 60


def test_a_bulk_goes_in_parts_with_places_of_the_whole() -> None:
    """At most 1,000 jobs and 6 MiB; items that are wrong are left out and told at their place."""
    specs: list[Any] = [JobSpec(handler="noop", payload=n) for n in range(2_500)]
    specs[3] = JobSpec(handler="noop", priority=9)
    specs[7] = None
    bulk = Bulk(iter(specs))
    parts = list(bulk.parts())
    assert [len(part.inputs) for part in parts] == [1_000, 1_000, 498]
    assert [place for part in parts for place in part.places] == [n for n in range(2_500) if n not in (3, 7)]
    assert {place: type(error) for place, error in bulk.errors.items()} == {3: InvalidInput, 7: InvalidInput}
    large = Bulk(JobSpec(handler="noop", payload="x" * 200_000) for _ in range(100))
    assert [part.size <= MAX_BULK_BYTES for part in large.parts()] == [True] * 4
