"""Mutations: what people can ask for, and what they are told."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Message
from uuid_utils.compat import uuid7

from jobledger.domain.identity import derived_job_id
from jobledger.domain.job.commands import SubmitJob
from jobledger.graphql.outcomes import OutcomeTail

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

SUBMIT_MANY = (
    "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { __typename ... on UserError { "
    "code message path "
    "value remedy } ... on SubmitJobsSuccess { accepted duplicates rejected pending position jobIds problems { index "
    "commandId error { __typename code message path value remedy } } } } }"
)
RESULTS = (
    "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { ... on SubmitJobsSuccess { "
    "results { __typename "
    "... on SubmitJobSuccess { job { id status } duplicate } ... on UserError { code path } } } } }"
)
CANCEL = (
    "mutation($input: CancelJobInput!) { cancelJob(input: $input) { __typename ... on CancelJobSuccess { "
    "job { id status "
    "} commandId position } ... on UserError { code message path value } ... on Conflict { status } "
    "... on Pending { commandId jobId } } }"
)
CREATE = (
    "mutation($input: CreateQueueInput!) { createQueue(input: $input) { __typename ... on QueueSuccess { "
    "queue { name } "
    "position duplicate } ... on UserError { code message path value remedy } } }"
)
UPDATE = CREATE.replace("CreateQueue", "UpdateQueue").replace("createQueue", "updateQueue")


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


async def test_a_name_that_no_worker_serves_is_said_at_once(api: Any) -> None:
    """The job is accepted all the same; an owner that is slow to say it says it to a later submission."""
    query = 'mutation { submitJob(input: {handler: "wrok"}) { ... on SubmitJobSuccess { job { status } warning } } }'
    for _ in range(50):
        answer = (await api.ask(query))["submitJob"]
        assert answer["job"]["status"] == "QUEUED"
        if answer["warning"] is not None:
            break
    assert answer["warning"].startswith("No worker serves handler 'wrok' on queue 'default' now")


async def test_a_submitted_job_is_answered_when_decided_and_seen_at_its_position(api: Any) -> None:
    answer = await api.submit(payload={"to": "a@b"}, tags=[{"name": "team", "value": "x"}], priority=1)
    assert answer["__typename"] == "SubmitJobSuccess"
    assert answer["job"]["status"] == "QUEUED" and answer["duplicate"] is False
    query = (
        "query($id: ID!, $after: Position) { job(id: $id, after: $after) { status payload priority why "
        "tags { name value } queue { name } attempts { status assignment } events { edges { node { type } } } } }"
    )
    job = (await api.ask(query, {"id": answer["job"]["id"], "after": answer["position"]}))["job"]
    assert job["payload"] == {"to": "a@b"} and job["tags"] == [{"name": "team", "value": "x"}]
    types = [edge["node"]["type"] for edge in job["events"]["edges"]]
    assert types == ["io.jobledger.job.submitted.v1", "io.jobledger.task.ready.v1"]
    assert "no worker serves handler 'work'" in job["why"]


BAD: list[tuple[dict[str, Any], str, list[str], str]] = [
    ({"handler": "no spaces"}, "INVALID", ["handler"], "letters, digits"),
    ({"handler": ""}, "INVALID", ["handler"], "empty"),
    ({"queue": "-x"}, "INVALID", ["queue"], "letters, digits"),
    ({"queue": "nowhere"}, "UNKNOWN_QUEUE", ["queue"], "createQueue"),
    ({"priority": 9}, "INVALID", ["priority"], "1 (first) to 5 (last)"),
    ({"at": "2030-01-01T00:00:00"}, "INVALID", ["at"], "zone"),
    ({"at": "tomorrow"}, "INVALID", ["at"], "2026-01-31T09:30:00Z"),
    ({"at": 5}, "INVALID", ["at"], "not a time"),
    ({"at": "9999-12-31T23:59:59-12:00"}, "INVALID", ["at"], "ten years"),
    ({"at": later(days=3700)}, "INVALID", ["at"], "ten years"),
    ({"delaySeconds": -1}, "INVALID", ["delaySeconds"], "range"),
    ({"delaySeconds": 1, "at": "2030-01-01T00:00:00Z"}, "INVALID", ["delaySeconds"], "one of them"),
    ({"payload": "x" * 262_143}, "PAYLOAD_TOO_LARGE", ["payload"], "256 KiB"),
    ({"payloadText": "{bad"}, "INVALID", ["payloadText"], "valid JSON"),
    ({"payloadText": "1", "payload": 1}, "INVALID", ["payloadText"], "one of them"),
    ({"retry": {"maxAttempts": 0}}, "INVALID", ["retry", "maxAttempts"], "1 to 1,000"),
    ({"retry": {"factor": 0.5}}, "INVALID", ["retry", "factor"], "1 to 100"),
    ({"retry": {"giveUpOn": ["a.b"]}}, "INVALID", ["retry", "giveUpOn", "0"], "without its module"),
    ({"retry": {"giveUpOn": ["E"] * 33}}, "INVALID", ["retry", "giveUpOn"], "at most 32"),
    ({"timeoutSeconds": 0}, "INVALID", ["timeoutSeconds"], "range"),
    ({"parentId": "x"}, "INVALID", ["parentId"], "UUID"),
    ({"commandId": "x"}, "INVALID", ["commandId"], "UUID"),
    ({"commandId": str(uuid.uuid4())}, "INVALID", ["commandId"], "UUIDv7"),
    ({"commandId": derived_job_id(1_700_000_000_000, "x")}, "INVALID", ["commandId"], "UUIDv7"),
    ({"commandId": "ffffffff-ffff-7c0a-9f4e-2d1c7e0b5a41"}, "INVALID", ["commandId"], "check the clock"),
    ({"idempotencyKey": ""}, "INVALID", ["idempotencyKey"], "1 to 256"),
    ({"idempotencyKey": "k" * 257}, "INVALID", ["idempotencyKey"], "1 to 256"),
    ({"tags": [{"name": "a", "value": "b"}] * 2}, "INVALID", ["tags", "1", "name"], "twice"),
    ({"tags": [{"name": "", "value": "b"}]}, "INVALID", ["tags", "0", "name"], "empty"),
    ({"tags": [{"name": "a", "value": "b\u0000"}]}, "INVALID", ["tags", "0", "value"], "control"),
    ({"tags": [{"name": str(i), "value": ""} for i in range(33)]}, "INVALID", ["tags"], "at most 32"),
    ({"tags": [{"name": "a", "value": "v" * 257}]}, "INVALID", ["tags", "0", "value"], "at most 256"),
]


async def test_bad_input_names_field_value_and_remedy_and_sends_nothing(system: Any) -> None:
    api = await system.api()
    for fields, code, path, word in BAD:
        await _refused(api, fields, code, path, word)
    assert not system.owners.sent


async def _refused(api: Any, fields: dict[str, Any], code: str, path: list[str], word: str) -> None:
    answer = await api.submit(**fields)
    assert (answer["code"], answer["path"]) == (code, ["input", *path])
    assert word in answer["message"] and answer["remedy"] and answer["value"] is not None
    assert len(answer["message"].splitlines()) == 1 and "Traceback" not in answer["message"]
    bulk = (await api.ask(SUBMIT_MANY, {"input": [{"handler": "work", **fields}]}))["submitJobs"]
    (problem,) = bulk["problems"]
    assert problem["error"]["code"] == code and problem["error"]["path"] == ["input", "0", *path]


async def test_a_policy_names_errors_to_give_up_on_and_null_is_a_payload(api: Any) -> None:
    query = "query($id: ID!, $after: Position) { job(id: $id, after: $after) { payload run retry { giveUpOn } } }"
    for payload in ({"payload": None}, {"payloadText": "null"}, {}):
        answer = await api.submit(retry={"giveUpOn": ["CardDeclined", "KeyError"]}, **payload)
        job = (await api.ask(query, {"id": answer["job"]["id"], "after": answer["position"]}))["job"]
        assert job == {"payload": None, "run": 1, "retry": {"giveUpOn": ["CardDeclined", "KeyError"]}}


async def test_a_due_time_in_the_past_runs_now_and_one_ahead_is_scheduled(api: Any) -> None:
    assert (await api.submit(at=later(days=-400)))["job"]["status"] == "QUEUED"
    assert (await api.submit(at=later(days=400)))["job"]["status"] == "SCHEDULED"
    assert (await api.submit(delaySeconds=60))["job"]["status"] == "SCHEDULED"


async def test_the_same_command_id_five_times_is_one_job_and_the_first_outcome(system: Any) -> None:
    first, second = await system.api(), await system.api()
    command = str(uuid7())
    answers = [await api.submit(commandId=command) for api in (first, second, first, second, first)]
    assert {answer["job"]["id"] for answer in answers} == {command}
    assert [answer["duplicate"] for answer in answers] == [False, True, True, True, True]
    assert len({answer["position"] for answer in answers}) == 1


async def test_a_repeat_is_told_as_one_also_when_the_first_outcome_comes_late(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what another api has sent; the second one learns of it while it waits for its own."""
    first = await system.api()
    original, comes = OutcomeTail.deliver, asyncio.Event()

    async def late(tail: OutcomeTail, batch: list[Message]) -> None:
        await comes.wait()
        await original(tail, batch)

    monkeypatch.setattr(OutcomeTail, "deliver", late)
    second = await system.api()
    command = str(uuid7())
    accepted = await first.submit(commandId=command)
    again = asyncio.ensure_future(second.submit(commandId=command))
    async with asyncio.timeout(20):
        while command not in second.api.components.outcomes._waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    comes.set()
    assert (accepted["duplicate"], (await again)["duplicate"]) == (False, True)
    assert (await again)["job"]["id"] == accepted["job"]["id"] == command


async def test_an_idempotency_key_gives_the_first_job_and_refuses_another_request(api: Any) -> None:
    first = await api.submit(idempotencyKey="k", payload={"a": 1, "b": 2})
    again = await api.submit(idempotencyKey="k", payload={"b": 2, "a": 1})
    other = await api.submit(idempotencyKey="k", payload={"a": 2})
    assert again["job"]["id"] == first["job"]["id"] and again["duplicate"] is True
    assert other["__typename"] == "IdempotencyKeyReused" and other["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert other["path"] == ["input", "idempotencyKey"]


async def test_a_bulk_answers_for_each_item_in_order(api: Any) -> None:
    command = str(uuid7())
    jobs = [{"handler": "work"}, {"handler": "not valid"}, {"handler": "work", "commandId": command}] * 2
    answer = (await api.ask(SUBMIT_MANY, {"input": jobs}))["submitJobs"]
    assert (answer["accepted"], answer["rejected"], answer["pending"]) == (4, 2, 0)
    assert [one is None for one in answer["jobIds"]] == [False, True, False] * 2
    assert answer["jobIds"][2] == answer["jobIds"][5] == command
    assert [problem["index"] for problem in answer["problems"]] == [1, 4]
    results = (await api.ask(RESULTS, {"input": jobs}))["submitJobs"]["results"]
    assert [one["__typename"] for one in results] == ["SubmitJobSuccess", "ValidationFailed", "SubmitJobSuccess"] * 2
    assert results[2]["duplicate"] is True and results[1]["path"] == ["input", "1", "handler"]


async def test_a_bulk_of_a_thousand_is_taken_and_of_none_or_more_refused(api: Any) -> None:
    answer = (await api.ask(SUBMIT_MANY, {"input": [{"handler": "work"}] * 1000}))["submitJobs"]
    assert answer["accepted"] == 1000 and len(set(answer["jobIds"])) == 1000
    for count in (0, 1001):
        refused = (await api.ask(SUBMIT_MANY, {"input": [{"handler": "work"}] * count}))["submitJobs"]
        assert refused["code"] == "INVALID" and "1 to 1,000" in refused["message"] and refused["value"] == str(count)


async def test_a_bulk_over_8_mib_is_refused_as_a_whole(system: Any) -> None:
    api = await system.api()
    jobs = [{"handler": "work", "payload": "x" * 250_000}] * 34
    answer = (await api.ask(SUBMIT_MANY, {"input": jobs}))["submitJobs"]
    assert answer["code"] == "PAYLOAD_TOO_LARGE" and "8 MiB" in answer["message"]
    assert not system.owners.sent


async def test_cancel_ends_a_waiting_job_and_says_what_it_can_not_cancel(api: Any) -> None:
    scheduled = await api.submit(delaySeconds=60)
    job = scheduled["job"]["id"]
    answer = (await api.ask(CANCEL, {"input": {"id": job, "reason": "no longer wanted"}}))["cancelJob"]
    assert answer["job"] == {"id": job, "status": "CANCELLED"}
    again = (await api.ask(CANCEL, {"input": {"id": job}}))["cancelJob"]
    assert (again["__typename"], again["code"], again["status"]) == ("Conflict", "ALREADY_ENDED", "CANCELLED")
    assert again["message"] == f"Expected to cancel job '{job}', but it is CANCELLED; an ended job stays as it is."
    unknown = (await api.ask(CANCEL, {"input": {"id": str(uuid.uuid4())}}))["cancelJob"]
    assert unknown["code"] == "NOT_FOUND" and unknown["path"] == ["input", "id"]
    bad = (await api.ask(CANCEL, {"input": {"id": "7"}}))["cancelJob"]
    assert bad["code"] == "INVALID" and bad["value"] == "7"
    seen = await api.ask(
        "query($id: ID!, $after: Position) { job(id: $id, after: $after) { status cancelReason } }",
        {"id": job, "after": answer["position"]},
    )
    assert seen["job"] == {"status": "CANCELLED", "cancelReason": "no longer wanted"}


@pytest.mark.scenario("a command is refused")
async def test_a_dead_letter_is_redriven_or_closed(system: Any) -> None:
    """Once each, and nothing but a dead letter; the read model follows."""
    api = await system.api()

    async def change(verb: str, job: str) -> Any:
        document = CANCEL.replace("CancelJob", f"{verb.capitalize()}Job").replace("cancelJob", f"{verb}Job")
        return (await api.ask(document, {"input": {"id": job, "reason": "looked at"}}))[f"{verb}Job"]

    async def see(job: str, after: str) -> Any:
        query = "query($id: ID!, $after: Position) { job(id: $id, after: $after) { status run errorType endedAt } }"
        return (await api.ask(query, {"id": job, "after": after}))["job"]

    job = (await api.submit(retry={"maxAttempts": 1}))["job"]["id"]
    early = await change("redrive", job)
    assert (early["code"], early["status"]) == ("INVALID_STATE", "QUEUED")
    for assignment, verb, status in ((1, "redrive", "QUEUED"), (2, "discard", "DISCARDED")):
        await system.fail(job, assignment)
        done = await change(verb, job)
        assert done["job"] == {"id": job, "status": status}
        seen = await see(job, done["position"])
        assert (seen["status"], seen["run"]) == (status, 2)
        assert (seen["errorType"] is None) == (verb == "redrive")
        late = await change(verb, job)
        assert late["code"] == ("INVALID_STATE" if verb == "redrive" else "ALREADY_ENDED") and late["status"] == status


async def test_queues_are_created_updated_and_known_at_once_on_every_api(system: Any) -> None:
    first, second = await system.api(), await system.api()
    created = (await first.ask(CREATE, {"input": {"name": "emails", "maxWaitingBytes": 5_000_000_000}}))["createQueue"]
    assert created["queue"] == {"name": "emails"}
    assert (await first.submit(queue="emails"))["__typename"] == "SubmitJobSuccess"
    await asyncio.sleep(0.5)
    assert (await second.submit(queue="emails"))["__typename"] == "SubmitJobSuccess"
    again = (await second.ask(CREATE, {"input": {"name": "emails"}}))["createQueue"]
    assert again["code"] == "ALREADY_EXISTS" and again["path"] == ["input", "name"] and again["value"] == "emails"
    updated = (await first.ask(UPDATE, {"input": {"name": "emails", "description": "mail"}}))["updateQueue"]
    found = await second.ask(
        'query($after: Position) { queue(name: "emails", after: $after) { description maxWaitingBytes } }',
        {"after": updated["position"]},
    )
    assert found["queue"] == {"description": "mail", "maxWaitingBytes": 5_000_000_000}


async def test_bad_queue_inputs_are_refused(api: Any) -> None:
    async def create(**fields: Any) -> Any:
        return (await api.ask(CREATE, {"input": fields}))["createQueue"]

    assert (await create(name="a b"))["path"] == ["input", "name"]
    assert (await create(name="q", maxWaitingBytes=0))["path"] == ["input", "maxWaitingBytes"]
    assert (await create(name="q", maxWaitingBytes="many"))["value"] == "many"
    assert (await create(name="q", description="\u0000"))["path"] == ["input", "description"]
    empty = (await api.ask(UPDATE, {"input": {"name": "q"}}))["updateQueue"]
    assert empty["code"] == "INVALID" and "Nothing" in empty["message"]
    absent = (await api.ask(UPDATE, {"input": {"name": "q", "description": "d"}}))["updateQueue"]
    assert absent["code"] == "NOT_FOUND"


async def test_the_default_queue_can_be_changed_before_anything_created_it(system: Any) -> None:
    api = await system.api()
    answer = (await api.ask(UPDATE, {"input": {"name": "default", "maxWaitingBytes": 100}}))["updateQueue"]
    assert answer["__typename"] == "QueueSuccess"
    assert (await api.submit(payload="x" * 200))["code"] == "QUEUE_FULL"


async def test_a_full_queue_refuses_more_bytes(api: Any) -> None:
    await api.ask(CREATE, {"input": {"name": "small", "maxWaitingBytes": 1000}})
    first = await api.submit(queue="small", payload="x" * 600)
    assert first["__typename"] == "SubmitJobSuccess"
    full = await api.submit(queue="small", payload="x" * 600)
    assert full["__typename"] == "QueueFull" and "maxWaitingBytes" in full["remedy"] and full["value"] == "small"
    await api.ask("query($after: Position) { readModel(after: $after) { behind } }", {"after": first["position"]})
    await asyncio.sleep(0.5)
    assert (await api.submit(queue="small", payload="x" * 600))["code"] == "QUEUE_FULL"
    assert (await api.submit(queue="small", payload="x" * 6))["__typename"] == "SubmitJobSuccess"


@pytest.mark.scenario("no scheduler answers")
async def test_without_an_outcome_in_time_a_mutation_is_pending_and_can_be_sent_again(system: Any) -> None:
    api = await system.api(mutation_timeout_seconds=0.3)
    await system.owners.stop()
    answer = await api.submit()
    assert answer["__typename"] == "Pending" and answer["jobId"] == answer["commandId"]
    status = "query($id: ID!) { command(id: $id) { status jobId position } }"
    assert (await api.ask(status, {"id": answer["commandId"]}))["command"]["status"] == "PENDING"
    bulk = (await api.ask(SUBMIT_MANY, {"input": [{"handler": "work"}] * 3}))["submitJobs"]
    assert bulk["pending"] == 3 and all(problem["commandId"] for problem in bulk["problems"])
    await system.owners.start()
    for _ in range(100):
        again = await api.submit(commandId=answer["commandId"])
        if again["__typename"] != "Pending":
            break
    assert again["job"]["id"] == answer["jobId"]
    known = (await api.ask(status, {"id": answer["commandId"]}))["command"]
    assert known["status"] == "ACCEPTED" and known["jobId"] == answer["jobId"]


async def test_a_command_is_known_to_an_api_that_started_later(system: Any) -> None:
    first = await system.api()
    answer = await first.submit()
    refused = (await first.ask(CANCEL, {"input": {"id": str(uuid.uuid4()), "commandId": str(uuid.uuid4())}}))[
        "cancelJob"
    ]
    assert refused["code"] == "NOT_FOUND"
    rejected = system.owners.sent[-1].id
    second = await system.api()
    query = "query($id: ID!) { command(id: $id) { status jobId error { code } } }"
    assert (await second.ask(query, {"id": answer["commandId"]}))["command"]["status"] == "ACCEPTED"
    known = (await second.ask(query, {"id": rejected}))["command"]
    assert known["status"] == "REJECTED" and known["error"]["code"] == "NOT_FOUND"


async def test_trace_correlation_and_actor_go_with_the_command(system: Any) -> None:
    api = await system.api()
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "x-correlation-id": "order-7"}
    query = 'mutation { submitJob(input: {handler: "work", payload: {a: [1, null, true]}}) { __typename } }'
    await api.ask(query, None, **headers)
    (command,) = [one for one in system.owners.sent if isinstance(one.body, SubmitJob)]
    assert command.traceparent.split("-")[1] == trace and command.correlation_id == "order-7"
    assert command.actor.kind.value == "user" and command.body.payload.data == '{"a":[1,null,true]}'
    await api.ask(query, None, traceparent="nonsense")
    submitted = [one for one in system.owners.sent if isinstance(one.body, SubmitJob)]
    assert len(submitted) == 2 and len(submitted[1].traceparent) == 55
