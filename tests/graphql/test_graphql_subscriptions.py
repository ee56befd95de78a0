"""Subscriptions: no gap, no repeat, on any api process, over both transports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from span_notes import Lucky, noting
from uuid_utils.compat import uuid7

from jobledger.eventlog.positions import decode_position, encode_position
from jobledger.graphql.cursors import Cursors
from jobledger.graphql.request_spans import RequestSpans

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

EVENTS = (
    "subscription($filter: JobEventFilter, $after: Position, $start: Boolean! = false) { jobEvents(filter: $filter, "
    "after: $after, fromStart: $start) { __typename ... on JobEvent { type jobId version partition seq status data "
    "tags { name } position } ... on Resync { message position } } }"
)
BULK = (
    "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { ... on SubmitJobsSuccess { "
    "jobIds position } } }"
)


async def _submit(api: Any, count: int, **fields: Any) -> tuple[list[str], str]:
    answer = (await api.ask(BULK, {"input": [{"handler": "work", **fields}] * count}))["submitJobs"]
    return answer["jobIds"], answer["position"]


async def _take(items: AsyncIterator[Any], count: int) -> list[dict[str, Any]]:
    found = []
    async with asyncio.timeout(20):
        async for payload in items:
            assert "errors" not in payload, payload
            found.append(payload["data"]["jobEvents"])
            if len(found) == count:
                return found
    return found


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - looks at what the api itself has no event for
            await asyncio.sleep(0.02)


async def _sse(api: Any, variables: dict[str, Any]) -> AsyncIterator[Any]:
    headers = {"accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", api.url, json={"query": EVENTS, "variables": variables}, headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: ") and kind == "next":
                yield json.loads(line[6:])
            elif kind == "complete":
                return


def _places(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(event["partition"], event["seq"]) for event in events]


async def test_live_events_come_in_order_per_job_over_websocket_and_sse(system: Any) -> None:
    api = await system.api()
    async with api.websocket(EVENTS) as items:
        stream = _sse(api, {})
        first = asyncio.ensure_future(_take(stream, 20))
        await _until(lambda: api.api.components.tail.subscribers == 2)
        ids, _ = await _submit(api, 10, tags=[{"name": "a", "value": "b"}])
        by_socket, by_sse = await _take(items, 20), await first
        await stream.aclose()
    assert _places(by_socket) == _places(by_sse) and len(set(_places(by_socket))) == 20
    for job in ids:
        mine = [event for event in by_socket if event["jobId"] == job]
        assert [event["version"] for event in mine] == [1, 2]
        assert [event["status"] for event in mine] == ["SCHEDULED", "QUEUED"]
        assert mine[0]["data"]["handler"] == "work" and mine[0]["tags"] == [{"name": "a"}]


async def test_a_subscriber_that_moves_between_apis_misses_nothing_and_gets_nothing_twice(system: Any) -> None:
    apis = [await system.api(), await system.api()]
    seen: list[dict[str, Any]] = []
    jobs: list[str] = []
    start = encode_position(system.settings.cell, dict.fromkeys(range(system.settings.partitions), 0))
    after = start
    for turn in range(6):
        ids, _ = await _submit(apis[turn % 2], 7)
        jobs += ids
        async with apis[(turn + 1) % 2].websocket(EVENTS, {"after": after}) as items:
            seen += await _take(items, 11 if turn < 5 else 84 - 55)
        after = seen[-1]["position"]
    assert len(set(_places(seen))) == len(seen) == 84
    for job in jobs:
        assert [event["version"] for event in seen if event["jobId"] == job] == [1, 2]


async def test_what_is_older_than_memory_is_read_from_the_log(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger.graphql.event_tail.MAX_KEPT_EVENTS", 40)
    monkeypatch.setattr("jobledger.eventlog.event_offsets.CLOSE_ENOUGH", 10)
    api = await system.api()
    await _submit(api, 200)
    start = encode_position(system.settings.cell, dict.fromkeys(range(system.settings.partitions), 0))
    tail = api.api.components.tail
    await _until(lambda: not any(tail.covers(partition, 0) for partition in range(system.settings.partitions)))
    async with api.websocket(EVENTS, {"after": start}) as items:
        await _take(items, 1)
        more, _ = await _submit(api, 50)
        rest = await _take(items, 499)
    by_job: dict[str, list[int]] = {}
    for event in rest:
        by_job.setdefault(event["jobId"], []).append(event["version"])
    assert set(by_job) >= set(more) and len(set(_places(rest))) == 499
    middle = rest[250]["position"]
    async with api.websocket(EVENTS, {"after": middle}) as items:
        again = await _take(items, 248)
    assert set(_places(again)) == set(_places(rest[251:]))


@pytest.mark.parametrize("page", [1, 500])
async def test_one_jobs_history_comes_first_then_what_is_new(
    system: Any, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("jobledger.graphql.event_stream.HISTORY_PAGE", page)
    api, other = await system.api(), await system.api()
    answer = await api.submit(delaySeconds=60)
    job = answer["job"]["id"]
    await _submit(api, 20)
    cancel = 'mutation { cancelJob(input: {id: "%s"}) { __typename } }'
    for one in (api, other):
        async with one.websocket(EVENTS, {"filter": {"jobId": job}, "start": True}) as items:
            (first,) = await _take(items, 1)
            assert first["type"].endswith("job.submitted.v1") and first["jobId"] == job
            if one is api:
                await other.ask(cancel % job)
            (second,) = await _take(items, 1)
            assert second["status"] == "CANCELLED" and second["version"] == 2
    async with api.websocket(EVENTS, {"filter": {"jobId": job}, "after": first["position"]}) as items:
        assert await _take(items, 1) == [second]


async def test_filters_by_type_tag_and_queue(api: Any) -> None:
    await api.ask('mutation { createQueue(input: {name: "q"}) { __typename } }')
    wanted = {"types": ["task.ready"], "tags": [{"name": "t", "value": "1"}], "queue": "q"}
    async with api.websocket(EVENTS, {"filter": wanted}) as items:
        await asyncio.sleep(0.3)
        await _submit(api, 3, queue="q", tags=[{"name": "t", "value": "2"}])
        await _submit(api, 3, tags=[{"name": "t", "value": "1"}])
        ids, _ = await _submit(api, 3, queue="q", tags=[{"name": "t", "value": "1"}])
        events = await _take(items, 3)
    assert {event["jobId"] for event in events} == set(ids)
    assert {event["type"] for event in events} == {"io.jobledger.task.ready.v1"}


async def test_filters_by_several_jobs(system: Any) -> None:
    """What is in memory and what comes live; of these jobs alone, each event once."""
    api = await system.api()
    start = encode_position(system.settings.cell, dict.fromkeys(range(system.settings.partitions), 0))
    first, _ = await _submit(api, 6, delaySeconds=60)
    wanted = {"jobIds": [first[1], first[4]]}
    async with api.websocket(EVENTS, {"filter": wanted, "after": start}) as items:
        seen = await _take(items, 2)
        cancel = 'mutation { cancelJob(input: {id: "%s"}) { __typename } }'
        for job in first:
            await api.ask(cancel % job)
        seen += await _take(items, 2)
    assert {(event["jobId"], event["version"]) for event in seen} == {
        (job, n) for job in (first[1], first[4]) for n in (1, 2)
    }


@pytest.mark.scenario("the api is asked")
@pytest.mark.scenario("a subscriber is slow")
async def test_a_slow_subscriber_is_told_to_come_back_and_then_misses_nothing(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobledger.graphql.event_tail.MAX_WAITING", 5)
    api = await system.api()
    start = encode_position(system.settings.cell, dict.fromkeys(range(system.settings.partitions), 0))
    cursors = Cursors(system.settings.cell, system.settings.tenant, system.settings.partitions)
    stream = api.api.components.events.stream(cursors, None, start, False)
    waiting = asyncio.ensure_future(anext(stream))
    await _until(lambda: api.api.components.tail.subscribers == 1)
    await _submit(api, 30)
    items = [await waiting]
    await asyncio.sleep(0.5)
    items += [item async for item in stream]
    *events, last = items
    assert type(last).__name__ == "Resync" and len(events) < 60
    async with api.websocket(EVENTS, {"after": last.position}) as rest:
        more = await _take(rest, 60 - len(events))
    places = {(event.partition, event.seq) for event in events} | set(_places(more))
    assert len(places) == 60
    value = api.api.metrics.registry.get_sample_value
    assert value("jobledger_subscription_events_total") == 60
    assert value("jobledger_subscriptions_dropped_total") == 1


async def test_what_a_subscription_can_not_do_is_a_coded_error(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger.graphql.event_stream.PATIENCE_SECONDS", 0.3)
    api = await system.api()
    cell = system.settings.cell
    cases = [
        ({"filter": {"jobId": "7"}}, "INVALID", "jobId"),
        ({"filter": {"types": ["job.flew"]}}, "INVALID", "job.submitted"),
        ({"start": True}, "INVALID", "fromStart"),
        ({"after": "nonsense"}, "INVALID_POSITION", "position"),
        ({"after": encode_position("other", {0: 1})}, "INVALID_POSITION", "other"),
        ({"after": encode_position(cell, {0: 10_000})}, "INVALID_POSITION", "ahead"),
    ]
    for variables, code, word in cases:
        async for payload in _sse(api, variables):
            (error,) = payload["errors"]
            assert error["extensions"]["code"] == code and word in error["message"], error
            assert "data" not in payload, "the request was refused: there is no data, not even null"
    headers = {"accept": "text/event-stream"}
    answer = await api.http.post(api.url, json={"query": "subscription { flights }"}, headers=headers)
    (line,) = [line for line in answer.text.splitlines() if "errors" in line]
    assert '"data"' not in line and "flights" in line
    url = api.url.replace("http", "ws", 1)
    from websockets.asyncio.client import connect

    async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        payload = {"query": EVENTS, "variables": {"after": "nonsense"}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        message = json.loads(await socket.recv())
    assert "INVALID_POSITION" in json.dumps(message)


async def test_mutations_over_websocket_and_an_end_when_the_api_stops(api: Any) -> None:
    query = (
        'mutation { submitJob(input: {handler: "work", commandId: "%s"}) { ... on SubmitJobSuccess { job { id } } } }'
    )
    command = str(uuid7())
    async with api.websocket(query % command) as items:
        answers = [payload async for payload in items]
    assert answers[0]["data"]["submitJob"]["job"]["id"] == command
    async with api.websocket(EVENTS) as items:
        await asyncio.sleep(0.3)
        api.api.components.tail.end_all("stopping")
        # A busy machine may bring what happened to the job just now.
        *_, last = [payload["data"]["jobEvents"] async for payload in items]
    assert last["__typename"] == "Resync" and last["message"] == "stopping"
    partitions = api.api.components.settings.partitions
    assert set(decode_position(api.api.components.settings.cell, last["position"], partitions)) == set(
        range(partitions)
    )


@pytest.mark.scenario("a job is traced", emits=("api_request",))
async def test_operations_over_websocket_and_sse_are_spans(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its own, from its beginning to its end, also where it goes on until nobody listens any more."""
    tracing, notes = noting(Lucky())
    spans = RequestSpans(tracing, api.api.metrics, time.monotonic)
    monkeypatch.setattr(api.api.components, "spans", spans)
    for query in ("{ queues { name } }", "{ nonsense }"):
        with contextlib.suppress(AssertionError):
            async with api.websocket(query) as items:
                assert [payload async for payload in items]
    stream = _sse(api, {})
    waiting = asyncio.ensure_future(_take(stream, 1))
    await _until(lambda: api.api.components.tail.subscribers == 1)
    assert len(notes.spans) == 2, "a stream that goes on has no end yet"
    await _submit(api, 1)
    await waiting
    await stream.aclose()
    await _until(lambda: len(notes.spans) == 3)
    told = [(s.attributes["method"], s.attributes["endpoint"], s.attributes["status_code"]) for s in notes.spans]
    assert told == [
        ("WEBSOCKET", "/graphql:queues", 200),
        ("WEBSOCKET", "/graphql:_invalid", 400),
        ("POST", "/graphql:jobEvents", 200),
    ]
    assert len({span.trace_id for span in notes.spans}) == 3
    held = spans._held
    assert len(held) == 1 and notes.spans[2].end_ns - notes.spans[2].start_ns > 1_000_000, "the submission waits"
