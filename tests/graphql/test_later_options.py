"""Options that came after the first release: here `timeout_seconds` plays one of them."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger.domain.job.commands import SubmitJob
from jobledger.domain.values import Opaque
from jobledger.graphql import options
from jobledger.graphql.types.inputs import SubmitJobInput
from jobledger.graphql.validation import submit_body

#: Of a request without later options, as it was from the first release on: keys outlive an upgrade.
FIRST_DIGEST = "14dad1dd5d3f00c92dc163ce6fbab8d5c5c78a092e151582b51095dde3197d4b"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(options.LATER, "timeout_seconds", None)


def _digest(**given: Any) -> str | None:
    return submit_body(SubmitJobInput(handler="h", idempotency_key="k", **given), 1_000).request_digest


def test_a_request_without_one_has_the_digest_that_it_always_had(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _digest()
    assert before == FIRST_DIGEST
    monkeypatch.setitem(options.LATER, "timeout_seconds", None)
    assert _digest() == before


def test_one_that_is_given_makes_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _digest(timeout_seconds=2.0)
    monkeypatch.setitem(options.LATER, "timeout_seconds", None)
    assert len({first, _digest(timeout_seconds=2.0), _digest(timeout_seconds=3.0), _digest()}) == 4


@pytest.mark.usefixtures("later")
def test_those_that_are_given_are_shown_by_their_names_in_the_api() -> None:
    given = SubmitJob(handler="h", queue="q", payload=Opaque("1"), timeout_seconds=2.5)
    assert options.shown_options(given) == {"timeoutSeconds": 2.5}
    assert options.shown_options(SubmitJob(handler="h", queue="q", payload=Opaque("1"))) == {}


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.usefixtures("later")
async def test_a_job_shows_them(api: Any) -> None:
    answer = await api.submit(timeoutSeconds=2.5)
    plain = await api.submit()
    query = "query($id: ID!, $after: Position) { job(id: $id, after: $after) { options } }"
    for one, shown in ((answer, {"timeoutSeconds": 2.5}), (plain, {})):
        found = await api.ask(query, {"id": one["job"]["id"], "after": one["position"]})
        assert found["job"]["options"] == shown
