"""The client against the real roles: api, scheduler, projector and worker as processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from client_stack import Stack

from jobledger import AsyncClient, Client, JobCancelled, JobFailed
from jobledger.client import (
    AlreadyEnded,
    AlreadyExists,
    BulkError,
    IdempotencyKeyReused,
    InvalidInput,
    JobSpec,
    NotFound,
    OutcomeUnknown,
    QueueNotFound,
    Unavailable,
)
from jobledger.dev.ports import free_port
from jobledger.domain.job.state import JobStatus

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@dataclass
class Service:
    """Somebody else's service: `seen` are the headers of the requests to it."""

    url: str
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.seen.append(dict(self.headers))
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    one = Service(f"http://127.0.0.1:{server.server_address[1]}/orders")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield one
    server.shutdown()
    thread.join()
    server.server_close()


async def test_the_way_of_jobs_through_the_client(client: AsyncClient, stack: Stack) -> None:
    """Submit, wait, watch, fail, cancel, bulk, keys, errors and the synchronous twin, against all four roles."""
    job = await client.submit("echo", {"to": "a@b"}, tags={"team": "x"}, idempotency_key="k1")
    result = await job.result(timeout=30)
    assert (result["to"], result["attempt"]) == ("a@b", 1)
    assert await job.status() is JobStatus.SUCCEEDED
    types = [event.type.split(".", 2)[-1] async for event in job.events()]
    assert types[0] == "job.submitted.v1"
    assert types[-2:] == ["task.succeeded.v1", "job.succeeded.v1"]
    again = await client.submit("echo", {"to": "a@b"}, tags={"team": "x"}, idempotency_key="k1")
    assert (again.id, again.duplicate) == (job.id, True)
    with pytest.raises(IdempotencyKeyReused):
        await client.submit("echo", {"to": "other"}, idempotency_key="k1")
    await _failures(client)
    await _cancels(client, job.id)
    await _bulk(client)
    levels = {level.name: level for level in await client.slo(window_days=1)}
    assert levels["error-rate"].bad >= 1 and levels["error-rate"].window_days == 1
    assert levels["scheduling-accuracy"].actual == 1.0
    await _bad_input(client)
    await asyncio.to_thread(_synchronous, stack.url)


async def _failures(client: AsyncClient) -> None:
    with pytest.raises(JobFailed) as failed:
        await (await client.submit("hopeless")).result(timeout=30)
    assert (failed.value.error_type, failed.value.error) == ("NonRetryable", "never works")
    given_up = client.job(failed.value.job_id)
    assert await given_up.redrive("once more") is JobStatus.QUEUED
    assert (await given_up.wait(timeout=30)).status is JobStatus.DEAD_LETTERED
    assert await given_up.discard() is JobStatus.DISCARDED
    assert await given_up.status() is JobStatus.DISCARDED
    with pytest.raises(AlreadyEnded):
        await given_up.redrive()
    resumed = await client.submit("steps", 6)
    assert await resumed.result(timeout=30) == [0, 1, 2, 3, 4, 5]
    kinds = [event.type async for event in resumed.events()]
    assert "io.jobledger.task.checkpoint_saved.v1" in kinds
    killed = await client.submit("spin", "/dev/null", retry=1)
    with pytest.raises(JobFailed) as timed_out:
        await killed.result(timeout=30)
    assert timed_out.value.cause == "TIMEOUT"


async def _cancels(client: AsyncClient, ended: str) -> None:
    later = await client.submit("square", 2, in_="1h")
    with pytest.raises(TimeoutError):
        await later.result(timeout=0.5)
    assert await later.cancel("not needed") is JobStatus.CANCELLED
    with pytest.raises(JobCancelled):
        await later.result(timeout=20)
    running = await client.submit("sleepy", 60)
    while await running.status() is not JobStatus.RUNNING:  # noqa: ASYNC110 - what is shown is what is asked
        await asyncio.sleep(0.05)
    assert await running.cancel() is JobStatus.CANCELLING
    assert (await running.wait(timeout=20)).status is JobStatus.CANCELLED
    with pytest.raises(AlreadyEnded) as refused:
        await client.cancel(ended)
    assert refused.value.status is JobStatus.SUCCEEDED


async def _bulk(client: AsyncClient) -> None:
    jobs = await client.submit_many(JobSpec(handler="square", payload=n) for n in range(30))
    assert await asyncio.gather(*(job.result(timeout=60) for job in jobs)) == [n * n for n in range(30)]
    with pytest.raises(BulkError) as partly:
        await client.submit_many(
            [JobSpec(handler="noop"), JobSpec(handler="noop", priority=9), JobSpec(handler="noop", queue="nowhere")]
        )
    assert sorted(partly.value.errors) == [1, 2]
    assert partly.value.jobs[0] is not None
    assert isinstance(partly.value.errors[2], QueueNotFound)


async def _bad_input(client: AsyncClient) -> None:
    with pytest.raises(QueueNotFound):
        await client.submit("noop", queue="nowhere")
    with pytest.raises(InvalidInput):
        await client.submit("noop", priority=9)
    with pytest.raises(InvalidInput, match="time zone"):
        await client.submit("noop", at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is wrong with it
    with pytest.raises(NotFound):
        await client.job("01990000-0000-7000-8000-000000000000").result(timeout=10)
    position = await client.create_queue("mail", description="letters")
    with pytest.raises(AlreadyExists):
        await client.create_queue("mail")
    assert {queue.name for queue in await client.queues(after=position)} >= {"default", "mail"}
    assert [worker.id for worker in await client.workers()] == ["worker-1"]


def _synchronous(url: str) -> None:
    with Client(url) as client:
        job = client.submit("square", 5)
        assert job.result(timeout=30) == 25
        assert [event.type for event in job.events()][-1] == "io.jobledger.job.succeeded.v1"
        assert client.jobs(handler="square", first=1).jobs[0].id == job.id
    client.close()


async def test_api_that_is_not_there_is_a_clear_error() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", timeout=0.5) as client:
        with pytest.raises(Unavailable, match="JOBLEDGER_API_URL"):
            await client.submit("noop")


async def test_command_without_an_outcome_is_repeated_under_its_id() -> None:
    """PENDING until the time-out: the same command id each time, and in the exception."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        seen.append(await reader.readexactly(length))
        body = b'{"data":{"submitJob":{"__typename":"Pending","commandId":"x","jobId":"j","message":"wait"}}}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server, AsyncClient(f"http://127.0.0.1:{port}", timeout=1.0) as client:
        with pytest.raises(OutcomeUnknown) as unknown:
            await client.submit("noop", {})
    assert len(seen) >= 3
    assert all(unknown.value.command_id.encode() in body for body in seen)
    assert unknown.value.job_id == "j"


TRACE = """
query($id: ID!) { trace(id: $id) { __typename
  ... on Trace { spans { id parentId name service durationMs failed attributes links } }
  ... on UserError { code } } }"""
#: What every kept trace of one attempt has, by the span above it.
TREE = {
    "api_request": None,
    "schedule_job": "api_request",
    "queue_enqueue": "schedule_job",
    "task_execution": "queue_enqueue",
    "projection_apply": "task_execution",
}


async def _trace(client: AsyncClient, trace_id: str, spans: int) -> dict[str, dict[str, Any]]:
    """The spans of a trace by name, once as many have come."""
    found: dict[str, Any] = {}
    for _ in range(100):
        found = (await client.execute(TRACE, {"id": trace_id}))["trace"]
        if len(found.get("spans", ())) >= spans:
            break
        await asyncio.sleep(0.1)
    by_name = {span["name"]: span for span in found.get("spans", ())}
    assert len(by_name) == len(found.get("spans", ())) == spans, found
    return by_name


def _parents(spans: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    names = {span["id"]: name for name, span in spans.items()}
    return {name: names.get(span["parentId"]) for name, span in spans.items()}


async def _trace_id(client: AsyncClient, job_id: str) -> str:
    """Of the submission of a job that has ended."""
    document = "query($id: ID!) { job(id: $id) { traceparent } }"
    return str((await client.execute(document, {"id": job_id}))["job"]["traceparent"][3:35])


async def test_a_trace_goes_from_the_client_to_what_the_handler_calls(client: AsyncClient, service: Service) -> None:
    """One tree of four processes, with the handler's own span and the call in its headers; a failure in a process."""
    job = await client.submit("calls", service.url + "?token=secret")
    sent = await job.result(timeout=30)
    spans = await _trace(client, await _trace_id(client, job.id), 7)
    assert _parents(spans) == {**TREE, "own_step": "task_execution", "external_api_call": "task_execution"}
    assert {span["attributes"]["sampling.reason"] for span in spans.values()} == {"new"}
    assert [spans[name]["service"] for name in TREE] == ["api", "scheduler", "scheduler", "worker", "projector"]
    assert not any(span["failed"] for span in spans.values())
    call = spans["external_api_call"]
    assert (call["attributes"]["url"], call["attributes"]["status"]) == (service.url, 204)
    (headers,) = service.seen
    assert {name: headers[name] for name in sent} == sent
    execution = spans["task_execution"]["attributes"]["execution_id"]
    trace_id = await _trace_id(client, job.id)
    assert sent == {
        "traceparent": f"00-{trace_id}-{call['id']}-01",
        "tracestate": "scheduler=scheduler-1",
        "X-Correlation-ID": execution,
    }
    service.seen.clear()
    failing = await client.submit("calls_in_process", service.url, retry=1)
    assert (await failing.wait(timeout=30)).status is JobStatus.DEAD_LETTERED
    spans = await _trace(client, await _trace_id(client, failing.id), 6)
    assert _parents(spans) == {**TREE, "external_api_call": "task_execution"}
    assert {span["attributes"]["sampling.reason"] for span in spans.values()} == {"error"}
    assert spans["task_execution"]["attributes"]["error.type"] == "ValueError"
    assert spans["external_api_call"]["attributes"]["method"] == "POST"
    assert service.seen[0]["X-Correlation-ID"] == spans["task_execution"]["attributes"]["execution_id"]
    nothing = (await client.execute(TRACE, {"id": "ab" * 16}))["trace"]
    assert nothing == {"__typename": "NotFound", "code": "NOT_FOUND"}
