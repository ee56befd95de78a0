"""Queries: pages, positions, and what is said when they can't be answered."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from typing import Any

import pytest

from jobledger.eventlog.positions import encode_position
from jobledger.graphql.request_counts import RequestCounts
from jobledger.graphql.shared_answers import FRESH_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

JOBS = (
    "query($filter: JobFilter, $first: Int! = 50, $after: Cursor, $order: JobOrder, $position: Position) "
    "{ jobs(filter: "
    "$filter, first: $first, after: $after, order: $order, afterPosition: $position) { edges { cursor "
    "node { id submittedAt status } } "
    "pageInfo { hasNextPage endCursor } position } }"
)
BULK = (
    "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { ... on "
    "SubmitJobsSuccess { jobIds position } } }"
)


async def _submit(api: Any, jobs: list[dict[str, Any]]) -> tuple[list[str], str]:
    answer = (await api.ask(BULK, {"input": jobs}))["submitJobs"]
    return answer["jobIds"], answer["position"]


@pytest.mark.parametrize("order", ["NEWEST", "OLDEST"])
async def test_pages_by_cursor_give_every_job_once(api: Any, order: str) -> None:
    handler = f"page.{order.lower()}"
    ids, position = await _submit(api, [{"handler": handler}] * 25)
    seen: list[str] = []
    times: list[str] = []
    cursor = None
    while True:
        wanted = {"handler": handler}
        variables = {"first": 10, "after": cursor, "order": order, "position": position, "filter": wanted}
        page = (await api.ask(JOBS, variables))["jobs"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        times += [edge["node"]["submittedAt"] for edge in page["edges"]]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sorted(seen) == sorted(ids) and len(seen) == 25
    assert times == sorted(times, reverse=order == "NEWEST")


async def test_filters_hold_together(system: Any) -> None:
    api = await system.api()
    ids, position = await _submit(
        api,
        [
            {"handler": "a", "tags": [{"name": "t", "value": "1"}], "priority": 2},
            {"handler": "a", "tags": [{"name": "t", "value": "2"}]},
            {"handler": "b", "delaySeconds": 60, "idempotencyKey": "key"},
        ],
    )

    async def found(**wanted: Any) -> list[int]:
        page = (await api.ask(JOBS, {"filter": wanted, "position": position}))["jobs"]
        return sorted(ids.index(edge["node"]["id"]) for edge in page["edges"])

    assert await found(handler="a") == [0, 1]
    assert await found(handler="a", tags=[{"name": "t", "value": "1"}]) == [0]
    assert await found(status=["SCHEDULED"]) == [2]
    assert await found(status=["QUEUED", "SCHEDULED"], priority=3) == [1, 2]
    assert await found(idempotencyKey="key") == [2]
    assert await found(ids=ids[1:]) == [1, 2]
    assert await found(queue="other") == []
    assert await found(submittedFrom="2020-01-01T00:00:00Z", dueBefore="2020-01-01T00:00:00Z") == []


async def test_arguments_that_can_not_be_are_coded_errors(api: Any) -> None:
    for first in (0, 101, -1):
        error = await api.error(JOBS, {"first": first})
        assert error["extensions"]["code"] == "INVALID" and error["extensions"]["argument"] == "first"
    error = await api.error(JOBS, {"filter": {"submittedFrom": "2020-01-01T00:00:00"}})
    assert error["extensions"]["argument"] == "filter.submittedFrom" and "zone" in error["message"]
    error = await api.error(JOBS, {"filter": {"ids": ["x"]}})
    assert error["extensions"]["argument"] == "filter.ids"


async def test_a_cursor_or_position_from_elsewhere_is_refused(api: Any) -> None:
    await _submit(api, [{"handler": "work"}])
    elsewhere = base64.urlsafe_b64encode(b"other|default|jobs-newest|1|x").decode()
    for cursor in ("nonsense", elsewhere, "!", "é"):
        error = await api.error(JOBS, {"after": cursor})
        assert error["extensions"]["code"] == "INVALID_CURSOR" and error["extensions"]["value"] == cursor
    page = (await api.ask(JOBS, {"order": "OLDEST"}))["jobs"]
    if page["pageInfo"]["endCursor"]:
        error = await api.error(JOBS, {"order": "NEWEST", "after": page["pageInfo"]["endCursor"]})
        assert error["extensions"]["code"] == "INVALID_CURSOR"
    cell = api.api.components.settings.cell
    for token in ("nonsense", encode_position("other", {0: 1}), encode_position(cell, {99: 1})):
        error = await api.error("query($p: Position) { queues(after: $p) { name } }", {"p": token})
        assert error["extensions"]["code"] == "INVALID_POSITION" and error["extensions"]["remedy"]


async def test_a_position_that_is_not_reached_is_a_coded_error(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger.graphql.reads.WAIT_SECONDS", 0.3)
    token = encode_position(api.api.components.settings.cell, {0: 10_000})
    error = await api.error("query($p: Position) { workers(after: $p) { id } }", {"p": token})
    assert error["extensions"]["code"] == "POSITION_NOT_REACHED"


async def test_unknown_things_are_null_and_the_default_queue_is_always_there(system: Any) -> None:
    api = await system.api()
    query = (
        'query { a: job(id: "%s") { id } b: job(id: "7") { id } c: queue(name: "x") { id } d: queue(name: "default") '
        '{ id name createdAt } queues { name } node(id: "queue:default") { id __typename } '
        'command(id: "z") { status } }'
    )
    found = await api.ask(query % uuid.uuid4())
    assert (found["a"], found["b"], found["c"]) == (None, None, None)
    assert found["d"] == {"id": "queue:default", "name": "default", "createdAt": None}
    assert found["queues"] == [{"name": "default"}] and found["node"]["__typename"] == "Queue"
    assert found["command"]["status"] == "PENDING"


async def test_the_read_model_says_how_far_it_is(api: Any) -> None:
    _, position = await _submit(api, [{"handler": "work"}] * 20)
    query = (
        "query($p: Position) { readModel(after: $p) { position behind behindSeconds partitions { partition seq } } }"
    )
    found = (await api.ask(query, {"p": position}))["readModel"]
    assert len(found["partitions"]) == api.api.components.settings.partitions
    assert sum(part["seq"] for part in found["partitions"]) >= 40


SLO = "{ slo { name windowDays since actual total bad excluded errorBudget errorBudgetRemaining burnRate } }"
SIGNALS = (
    "{ goldenSignals { latencyP99Seconds trafficPerSecond errorRate errorRateDelta jobs { start failed cancelled }"
    " saturation { queueDepth workersBusy workersTotal databaseConnections databaseConnectionsLimit } } }"
)


async def test_service_levels_count_what_became_of_jobs(shared_system: Any, api: Any) -> None:
    """One failed and one was cancelled before anybody had it; and this api's own requests."""

    async def levels() -> dict[str, Any]:
        await asyncio.sleep(FRESH_SECONDS)
        return {one["name"]: one for one in (await api.ask(SLO))["slo"]}

    before = await levels()
    jobs, _ = await _submit(api, [{"handler": "x", "retry": {"maxAttempts": 1}}, {"handler": "nobody"}])
    failing, waiting = jobs
    await shared_system.fail(failing, 1)
    cancelled = await api.ask(
        "mutation($id: ID!) { cancelJob(input: {id: $id}) { ... on CancelJobSuccess { position } } }", {"id": waiting}
    )
    assert cancelled["cancelJob"]["position"]
    while (after := await levels())["error-rate"]["excluded"] == before["error-rate"]["excluded"]:
        pass
    grown = {
        name: tuple(after[name][key] - before[name][key] for key in ("total", "bad", "excluded"))
        for name in ("scheduling-accuracy", "completion", "error-rate")
    }
    assert grown == {"scheduling-accuracy": (0, 0, 1), "completion": (1, 0, 1), "error-rate": (1, 1, 1)}
    errors = after["error-rate"]
    assert errors["actual"] == 1 - errors["bad"] / errors["total"]
    assert errors["errorBudgetRemaining"] < 0 < errors["burnRate"]
    counts = next(one for one in api.api.services if isinstance(one, RequestCounts))
    await counts._save()
    availability = (await levels())["availability"]
    assert availability["total"] > 0 and availability["since"]


async def test_golden_signals_are_asked_for_and_followed(api: Any) -> None:
    """The subscription begins with the same answer."""
    await asyncio.sleep(FRESH_SECONDS)
    asked = (await api.ask(SIGNALS))["goldenSignals"]
    assert len(asked["jobs"]) == 24
    full = asked["saturation"]
    assert 0 < full["databaseConnections"] <= full["databaseConnectionsLimit"]
    async with api.websocket(f"subscription {SIGNALS}") as items:
        followed = (await anext(items))["data"]["goldenSignals"]
    assert followed.keys() == asked.keys() and followed["jobs"] == asked["jobs"]
    async with api.websocket(f"subscription {SLO}") as items:
        assert len((await anext(items))["data"]["slo"]) == 4
    assert (await api.error("{ slo(windowDays: 31) { name } }"))["extensions"]["argument"] == "windowDays"


async def test_live_asks_the_owner(api: Any) -> None:
    create = 'mutation { createQueue(input: {name: "live"}) { ... on QueueSuccess { position } } }'
    created = (await api.ask(create))["createQueue"]["position"]  # the read model may be behind it
    await _submit(api, [{"handler": "work", "queue": "live", "priority": 2}] * 3)
    query = (
        'query($after: Position) { queue(name: "live", after: $after) { live { '
        "waiting waitingByPriority { priority waiting } held workers { id: worker } } } }"
    )
    async with asyncio.timeout(20):  # they come from the jobs' partitions
        while (live := (await api.ask(query, {"after": created}))["queue"]["live"])["waiting"] < 3:
            continue
    assert live["waiting"] == 3 and live["waitingByPriority"][1] == {"priority": 2, "waiting": 3}


async def test_asking_owners_too_much_is_refused(api: Any) -> None:
    _, position = await _submit(api, [{"handler": "work"}] * 30)
    error = await api.error(
        "query($p: Position) { jobs(afterPosition: $p) { edges { node { why } } } }", {"p": position}
    )
    assert error["extensions"]["code"] == "INVALID" and "25" in error["message"]


async def test_without_postgres_queries_are_unavailable_and_mutations_go_on(system: Any) -> None:
    from pydantic import SecretStr

    api = await system.api(postgres_dsn=SecretStr("postgresql://127.0.0.1:9/none"))
    assert (await api.submit())["__typename"] == "SubmitJobSuccess"
    for query in ("{ jobs { position } }", "{ queues { name } }", f'{{ job(id: "{uuid.uuid4()}") {{ id }} }}'):
        error = await api.error(query)
        assert error["extensions"]["code"] == "UNAVAILABLE" and "try again" in error["message"]
    other = await api.submit(queue="other")
    assert other["code"] == "UNKNOWN_QUEUE" and other["value"] == "other", "the queue's owner knows that"
    await system.owners.stop()
    unknown = await api.submit(queue="another")
    assert unknown["__typename"] == "Unavailable" and unknown["value"] == "another"


async def test_without_kafka_mutations_are_pending(system: Any) -> None:
    from jobledger.settings import KafkaSettings

    away = KafkaSettings(bootstrap_servers="127.0.0.1:9", replication_factor=1, min_insync_replicas=1)
    from jobledger.eventlog import tail

    tail.START_SECONDS, before = 0.2, tail.START_SECONDS
    try:
        api = await system.api(kafka=away, mutation_timeout_seconds=0.3)
    finally:
        tail.START_SECONDS = before
    assert (await api.submit())["__typename"] == "Pending"
    ready = await api.http.get(api.url.replace("/graphql", "/health/ready"))
    assert ready.status_code == 503
    live = await api.http.get(api.url.replace("/graphql", "/health/live"))
    assert live.status_code == 200


async def test_health_tells_lines_that_are_held_up(shared_system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Postgres an api is DEGRADED and ready, without Kafka it is not ready; it lives all the time."""
    from delaying_proxy import kafka_line, postgres_line
    from pydantic import SecretStr

    from jobledger.bootstrap import dependencies

    monkeypatch.setattr(dependencies, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(dependencies, "ANSWER_SECONDS", 1.5)
    settings = shared_system.settings

    async def asked(api: Any, wanted: tuple[int, str], **components: str) -> None:
        base = api.url.removesuffix("/graphql")
        deadline = time.monotonic() + 20
        while True:
            assert (await api.http.get(base + "/health/live")).status_code == 200
            ready = (await api.http.get(base + "/health/ready")).status_code
            page = (await api.http.get(base + "/health/status")).json()
            found = {name: page["components"][name]["status"] for name in components}
            if ((ready, page["status"]), found) == (wanted, components):
                return
            assert time.monotonic() < deadline, (ready, page)

    async with (
        postgres_line(settings.postgres_dsn.get_secret_value()) as (dsn, postgres),
        kafka_line(settings.kafka.bootstrap_servers) as (servers, kafka),
    ):
        through = settings.kafka.model_copy(update={"bootstrap_servers": servers})
        api = await shared_system.api(kafka=through, postgres_dsn=SecretStr(dsn))
        try:
            await asked(api, (200, "HEALTHY"), database="HEALTHY", queue="HEALTHY", tails="HEALTHY")
            postgres.hold()
            await asked(api, (200, "DEGRADED"), database="UNHEALTHY", queue="HEALTHY")
            kafka.hold()
            await asked(api, (503, "UNHEALTHY"), database="UNHEALTHY", queue="UNHEALTHY")
            postgres.release()
            kafka.release()
            await asked(api, (200, "HEALTHY"), database="HEALTHY", queue="HEALTHY", projection="HEALTHY")
        finally:
            postgres.release()
            kafka.release()
            await shared_system.end(api)
