"""Input that is made to break things is refused like any other bad input."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest
from uuid_utils.compat import uuid7

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

JOBS = "query($after: Cursor) { jobs(after: $after) { edges { cursor } } }"


async def test_what_is_nested_too_deeply_is_refused(api: Any) -> None:
    deep = "[" * 3_000 + "]" * 3_000
    answer = await api.submit(payloadText=deep)
    assert (answer["code"], answer["path"]) == ("INVALID", ["input", "payloadText"])
    assert "nested too deeply" in answer["message"] and answer["remedy"]
    body = f'{{"query":"{{ __typename }}","variables":{{"a":{deep}}}}}'
    refused = await api.http.post(api.url, content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert "nested too deeply" in refused.json()["errors"][0]["message"]


async def test_a_cursor_that_was_tampered_with_is_refused(api: Any) -> None:
    cell = api.api.components.settings.cell
    for place in ("1|not-a-uuid", "1|\x00", f"{'9' * 30}|{uuid.uuid4()}", f"x|{uuid.uuid4()}"):
        cursor = base64.urlsafe_b64encode(f"{cell}|default|jobs-newest|{place}".encode()).decode()
        error = await api.error(JOBS, {"after": cursor})
        assert error["extensions"]["code"] == "INVALID_CURSOR"


async def test_nothing_has_a_name_that_postgres_can_not_hold(api: Any) -> None:
    query = (
        "query($n: String!, $i: ID!) { queue(name: $n) { id } workers(queue: $n) { id } command(id: $i) { status } }"
    )
    found = await api.ask(query, {"n": "a\x00b", "i": "a\x00b"})
    assert found == {"queue": None, "workers": [], "command": {"status": "PENDING"}}


async def test_a_command_with_an_id_of_the_caller_says_what_was_asked(system: Any) -> None:
    """So that its owner can tell the same request again from another one under its id, and refuse that."""
    api = await system.api()
    ids = [str(uuid7()) for _ in range(3)]
    for command, payload in zip(ids, ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2}), strict=True):
        await api.submit(commandId=command, payload=payload)
    sent = {command.id: command.body.request_digest for command in system.owners.sent if command.id in ids}
    assert sent[ids[0]] == sent[ids[1]] != sent[ids[2]] and sent[ids[0]] is not None


#: Documents that can't be executed, their variables, and words of the one error.
NOT_EXECUTABLE: list[tuple[str, Any, str]] = [
    ("", {}, "query"),
    ("{", {}, "Syntax Error"),
    ("{ nothing }", {}, "Cannot query field 'nothing'"),
    ("{ job { id } }", {}, "Argument 'Query.job(id:)' of type 'ID!' is required"),
    ("{ jobs(first: many) { position } }", {}, "Int cannot represent non-integer value: many"),
    ("{ jobs(filter: {status: [DONE]}) { position } }", {}, "Value 'DONE' does not exist in 'JobStatus' enum"),
    ("query($i: ID!) { job(id: $i) { id } }", {}, "Variable '$i' has invalid value: Expected a value of"),
    ("query($n: Int) { jobs(first: $n) { position } }", {"n": "x"}, "Int cannot represent non-integer value: 'x'"),
    ("mutation($i: SubmitJobInput!) { submitJob(input: $i) { __typename } }", {"i": {}}, "handler"),
    (
        "mutation($i: SubmitJobInput!) { submitJob(input: $i) { __typename } }",
        {"i": {"handler": "work", "priority": "high"}},
        "Int cannot represent non-integer value: 'high'",
    ),
    (
        "mutation($i: SubmitJobInput!) { submitJob(input: $i) { __typename } }",
        {"i": {"handler": "work", "colour": "red"}},
        "not to include unknown field 'colour'",
    ),
]


async def test_what_is_no_request_of_this_schema_is_one_sentence(api: Any) -> None:
    for query, variables, words in NOT_EXECUTABLE:
        await _is_one_sentence(api, query, variables, words)


async def _is_one_sentence(api: Any, query: str, variables: Any, words: str) -> None:
    answer = await api.http.post(api.url, json={"query": query, "variables": variables})
    assert answer.status_code in (200, 400)
    document = answer.json()
    assert not document.get("data")
    assert words in document["errors"][0]["message"]
    for error in document["errors"]:
        assert len(error["message"].splitlines()) == 1
        assert "Traceback" not in error["message"]
        assert error["extensions"]["code"] == "INVALID"
