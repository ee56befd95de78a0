"""Bad input of the client: one sentence that names the field, the value and what would be right."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobledger import AsyncClient, Client, InvalidInput, JobledgerError, JobSpec, NotAnApi, RetryPolicy
from jobledger.client import PayloadTooLarge
from jobledger.dev.ports import free_port
from jobledger.testing import inline

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)


def undecorated() -> None: ...


SPECS: list[tuple[dict[str, Any], str, str]] = [
    # what is given, the field, what the sentence says of the value
    ({"handler": ""}, "handler", "''"),
    ({"handler": "two words"}, "handler", "'two words'"),
    ({"handler": 5}, "handler", "5"),
    ({"handler": None}, "handler", "None"),
    ({"handler": undecorated}, "handler", "'undecorated'"),
    ({"payload": object()}, "payload", "object"),
    ({"payload": float("nan")}, "payload", "float"),
    ({"payload": {"a": {1, 2}, "b": lambda: 0}}, "payload", "dict"),
    ({"payload": "\ud800"}, "payload", "str"),
    ({"payload": "x" * 300_000}, "payload", "300,002 bytes"),
    ({"at": datetime(2026, 1, 31, 9)}, "at", "2026-01-31T09:00:00"),  # noqa: DTZ001 - that is what is wrong with it
    ({"at": "tomorrow"}, "at", "'tomorrow'"),
    ({"at": 1_700_000_000}, "at", "1700000000"),
    ({"at": NOW, "in_": "5m"}, "in_", "'5m'"),
    ({"in_": "soon"}, "in_", "'soon'"),
    ({"in_": -1}, "in_", "-1"),
    ({"in_": timedelta(days=-1)}, "in_", "-1 day"),
    ({"in_": True}, "in_", "True"),
    ({"queue": ""}, "queue", "''"),
    ({"queue": "a b"}, "queue", "'a b'"),
    ({"queue": 7}, "queue", "7"),
    ({"priority": 0}, "priority", "0"),
    ({"priority": 9}, "priority", "9"),
    ({"priority": "high"}, "priority", "'high'"),
    ({"priority": True}, "priority", "True"),
    ({"tags": {"n": 5}}, "tags", "'n' is 5, an int"),
    ({"tags": {"n": None}}, "tags", "'n' is None"),
    ({"tags": {5: "n"}}, "tags", "5"),
    ({"tags": ["team"]}, "tags", "['team']"),
    ({"tags": {str(n): "" for n in range(40)}}, "tags", "40 tags"),
    ({"tags": {"long": "x" * 300}}, "tags", "xxx"),
    ({"tags": {"half": "\ud800"}}, "tags", "\\ud800"),
    ({"tags": {"\ud800": "half"}}, "tags", "\\ud800"),
    ({"tags": {"lines": "a\nb"}}, "tags", "a\\nb"),
    ({"tags": {"a\0": "b"}}, "tags", "a\\x00"),
    ({"idempotency_key": ""}, "idempotency_key", "''"),
    ({"idempotency_key": 5}, "idempotency_key", "5"),
    ({"idempotency_key": "k" * 300}, "idempotency_key", "kkk"),
    ({"idempotency_key": "\ud800"}, "idempotency_key", "\\ud800"),
    ({"retry": 0}, "retry", "0"),
    ({"retry": 5_000}, "retry", "5000"),
    ({"retry": "twice"}, "retry", "'twice'"),
    ({"retry": True}, "retry", "True"),
    ({"retry": RetryPolicy(max_attempts=0)}, "retry.max_attempts", "0"),
    ({"retry": RetryPolicy(factor=0.5)}, "retry.factor", "0.5"),
    ({"retry": RetryPolicy(jitter_ratio=2)}, "retry.jitter_ratio", "2"),
    ({"timeout": 0}, "timeout", "0"),
    ({"timeout": "x"}, "timeout", "'x'"),
    ({"parent": "job-1"}, "parent", "'job-1'"),
    ({"command_id": "once"}, "command_id", "'once'"),
]


def _is_one_sentence(error: JobledgerError, field: str, value: str) -> None:
    assert field.split(".", maxsplit=1)[0] in ".".join(error.path)
    assert field in error.message
    assert value in error.message
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert len(error.message) < 320


@pytest.mark.parametrize(("given", "field", "value"), SPECS, ids=lambda one: re.sub(r" at 0x\w+", "", f"{one!r:.60}"))
def test_a_bad_job_is_refused_with_one_sentence_before_anything_is_sent(
    given: dict[str, Any], field: str, value: str
) -> None:
    """By the client, by its bulk and by the inline client alike; nobody listens at the address."""
    spec = {"handler": "noop", **given}
    with Client(f"http://127.0.0.1:{free_port()}") as client, inline() as twin:
        for one in (client, twin):
            with pytest.raises((InvalidInput, PayloadTooLarge)) as refused:
                one.submit(**spec)  # type: ignore[call-overload]
            _is_one_sentence(refused.value, field, value)
    assert JobSpec(**spec).handler == spec["handler"]  # a spec may be built; it is refused when it is sent


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"url": "localhost:8080"}, "url", "'localhost:8080'"),
        ({"url": "127.0.0.1"}, "url", "'127.0.0.1'"),
        ({"url": "ftp://127.0.0.1"}, "url", "'ftp://127.0.0.1'"),
        ({"url": "http://"}, "url", "'http://'"),
        ({"url": "http://host:port"}, "url", "'http://host:port'"),
        ({"url": "http://127.0.0.1:99999"}, "url", "99999"),
        ({"url": 8080}, "url", "8080"),
        ({"url": " http://127.0.0.1:8080"}, "url", "' http://"),
        ({"timeout": 0}, "timeout", "0"),
        ({"timeout": -1}, "timeout", "-1"),
        ({"timeout": "30s"}, "timeout", "'30s'"),
        ({"timeout": None}, "timeout", "None"),
        ({"timeout": float("inf")}, "timeout", "inf"),
        ({"headers": "x"}, "headers", "'x'"),
        ({"headers": {"a": 5}}, "headers['a']", "5"),
        ({"headers": {"a": "b\nc"}}, "headers['a']", "'b\\nc'"),
    ],
    ids=lambda one: f"{one!r:.40}",
)
def test_a_client_that_cannot_be_made_says_why(given: dict[str, Any], field: str, value: str) -> None:
    for cls in (Client, AsyncClient):
        with pytest.raises(InvalidInput) as refused:
            cls(**given)
        _is_one_sentence(refused.value, field.partition("[")[0], value)


QUESTIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("jobs", {"status": ["DONE"]}, "status", "'DONE'"),
    ("jobs", {"status": 5}, "status", "5"),
    ("jobs", {"queue": "a b"}, "queue", "'a b'"),
    ("jobs", {"handler": 5}, "handler", "5"),
    ("jobs", {"tags": {"n": 5}}, "tags", "'n' is 5"),
    ("jobs", {"first": 0}, "first", "0"),
    ("jobs", {"first": "all"}, "first", "'all'"),
    ("create_queue", {"name": ""}, "name", "''"),
    ("create_queue", {"name": "a b"}, "name", "'a b'"),
    ("create_queue", {"name": "q", "max_waiting_bytes": "1 GiB"}, "max_waiting_bytes", "'1 GiB'"),
    ("create_queue", {"name": "q", "max_waiting_bytes": 0}, "max_waiting_bytes", "0"),
    ("create_queue", {"name": "q", "description": 5}, "description", "5"),
    ("update_queue", {"name": 5}, "name", "5"),
]


@pytest.mark.parametrize(("method", "given", "field", "value"), QUESTIONS, ids=lambda one: f"{one!r:.40}")
def test_a_bad_question_is_refused_with_one_sentence(
    method: str, given: dict[str, Any], field: str, value: str
) -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, inline() as twin:
        for one in (client, twin):
            with pytest.raises(InvalidInput) as refused:
                getattr(one, method)(**given)
            _is_one_sentence(refused.value, field, value)


@pytest.mark.parametrize(
    ("method", "given", "field"),
    [
        ("cancel", {"job_id": 5}, "job_id"),
        ("cancel", {"job_id": "x", "reason": "5\ud800"}, "reason"),
        ("redrive", {"job_id": "x", "reason": 5}, "reason"),
        ("discard", {"job_id": "x", "command_id": 5}, "command_id"),
        ("job_view", {"job_id": None, "after": 5}, "after"),
        ("jobs", {"after": 5}, "after"),
        ("queues", {"after": 5}, "after"),
        ("workers", {"queue": 5}, "queue"),
    ],
)
def test_what_has_to_be_text_is_said(method: str, given: dict[str, Any], field: str) -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(InvalidInput) as refused:
        getattr(client, method)(**given)
    _is_one_sentence(refused.value, field, "5")


@pytest.mark.parametrize("timeout", [0, -1, "5s", float("nan")])
async def test_a_wait_needs_seconds(timeout: Any) -> None:
    async with AsyncClient("http://127.0.0.1:1/graphql") as client:
        assert client.url == "http://127.0.0.1:1"
        job = client.job("01990000-0000-7000-8000-000000000000")
        for wait in (job.wait(timeout), job.result(timeout), anext(client.as_completed([job], timeout))):
            with pytest.raises(InvalidInput, match=r"timeout is .* but must be a number of seconds above 0"):
                await wait


def _http(status: str, kind: str, body: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return (head + body).encode()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "does not speak HTTP"),  # Kafka closes the connection
        (b"\x00\x00\x00\x04oops", "does not speak HTTP"),
        (_http("404 Not Found", "text/html", "<h1>nginx</h1>"), "answered 404 with text/html"),
        (_http("404 Not Found", "application/json", '{"detail":"Not Found"}'), "answered 404 with application/json"),
        (_http("200 OK", "text/html", "<h1>It works!</h1>"), "answered 200 with text/html"),
        (_http("405 Method Not Allowed", "text/plain", ""), "answered 405 with text/plain"),
        (_http("200 OK", "application/json", '{"data":[]}'), "neither data nor errors"),
        (_http("200 OK", "application/json", '{"data":null}'), "neither data nor errors"),
    ],
    ids=lambda one: f"{one!r:.60}",
)
async def test_another_server_at_the_address_is_one_clear_sentence(answer: bytes, said: str) -> None:
    """At once, though a command without an outcome would be tried again for 30 seconds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port), AsyncClient(f"http://127.0.0.1:{port}") as client:
        for call in (client.submit("noop"), client.job("x").view(), client.submit_many([JobSpec(handler="noop")])):
            with pytest.raises(JobledgerError) as refused:
                await asyncio.wait_for(call, 20)
            error = refused.value if isinstance(refused.value, NotAnApi) else refused.value.errors[0]  # type: ignore[attr-defined]
            assert isinstance(error, NotAnApi)
            assert f"http://127.0.0.1:{port}/graphql is not Jobledger's API" in error.message
            assert said in error.message
            assert "set JOBLEDGER_API_URL" in error.message
        with pytest.raises(NotAnApi):
            await asyncio.wait_for(asyncio.to_thread(lambda: Client(f"http://127.0.0.1:{port}").submit("noop")), 20)
