"""The exported schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger.domain.aggregates import mutate
from jobledger.domain.job import commands as c
from jobledger.domain.job import decide as jobs
from jobledger.domain.job.state import JobStatus
from jobledger.domain.values import SYSTEM, Opaque, RetryPolicy
from jobledger.graphql.bulk_input import SubmitJobFields, fields_of
from jobledger.graphql.convert import event_of
from jobledger.graphql.export import default_path, export_schema
from jobledger.graphql.types.inputs import RetryPolicyInput, SubmitJobInput, TagInput
from jobledger.schemas.events import EventRecord

ROOT = Path(__file__).parents[2]


def test_the_committed_schema_is_the_one_that_is_served() -> None:
    committed = (ROOT / "schemas" / "schema.graphql").read_text()
    assert committed == export_schema(), "run: python -m jobledger.graphql.export > schemas/schema.graphql"
    assert default_path().resolve() == ROOT / "schemas" / "schema.graphql"


@pytest.mark.parametrize("inputs", [SubmitJobInput, RetryPolicyInput, TagInput])
def test_items_of_a_bulk_have_the_fields_of_the_input(inputs: type) -> None:
    definition = inputs.__strawberry_definition__  # type: ignore[attr-defined]
    fields = msgspec.structs.fields(fields_of(inputs))
    assert [field.name for field in fields] == [field.python_name for field in definition.fields]


def test_an_item_of_a_bulk_is_read_as_the_input_is() -> None:
    """Nested inputs too; what is not given is what the input has by default, or None."""
    retry, tags = {"maxAttempts": 2, "giveUpOn": ["KeyError"]}, [{"name": "a", "value": "b"}]
    item = msgspec.convert({"handler": "h", "delaySeconds": 1.5, "retry": retry, "tags": tags}, SubmitJobFields)
    assert (item.handler, item.queue, item.priority, item.delay_seconds) == ("h", "default", 3, 1.5)
    assert (item.retry.max_attempts, item.retry.give_up_on, item.retry.factor) == (2, ["KeyError"], None)
    assert [(tag.name, tag.value) for tag in item.tags] == [("a", "b")]
    assert item.payload is item.at is item.command_id is None


def _fields(text: str) -> set[str]:
    return set(re.findall(r"^  (\w+: \S+)$", text.split("\n}", maxsplit=1)[0], re.MULTILINE))


def test_every_error_type_says_the_same_things() -> None:
    text = export_schema()
    interface = _fields(text.split("interface UserError {")[1])
    found = [_fields(part) for part in text.split(" implements UserError {")[1:]]
    assert len(found) >= 6 and all(interface <= fields for fields in found)
    assert [sorted(fields - interface) for fields in found if fields != interface] == [["status: JobStatus"]]
    assert json.dumps(text).count("union ") >= 5


def test_the_status_of_an_event_is_the_jobs_after_it() -> None:
    """Of every event in every state of a job's life; one from before it told its status may tell none."""
    seen: set[tuple[str, str]] = set()
    for record, status in _lives():
        shown = event_of(record, 0, "").status
        assert event_of(msgspec.structs.replace(record, status_after=status), 0, "").status is status
        if shown is not None:
            assert shown is status, record
            seen.add((type(record.data).__name__, shown.value))
    assert {("TaskStarted", "RUNNING"), ("TaskStarted", "CANCELLING"), ("JobDiscarded", "DISCARDED")} <= seen
    assert {status for _, status in seen} == set(JobStatus)


def _lives() -> Iterator[tuple[EventRecord, JobStatus]]:
    """Each event of some lives of a job, with the job's status after the decision that it belongs to."""
    who: dict[str, Any] = {"task": "main", "worker": "w", "incarnation": "i"}
    times: dict[str, Any] = {"assigned_at_ms": 1, "started_at_ms": 1}

    def start(n: int) -> c.ReportStarted:
        return c.ReportStarted(**who, **times, assignment=n)

    def fail(n: int) -> c.ReportFailed:
        failure: dict[str, Any] = {"kind": c.FailureKind.FAILED, "error_type": "E", "error": Opaque("{}")}
        return c.ReportFailed(**who, **times, assignment=n, ended_at_ms=2, **failure)

    retry = RetryPolicy(max_attempts=2, initial_seconds=1.0, jitter_ratio=0.0)
    submit = c.SubmitJob(handler="h", queue="q", payload=Opaque("null"), retry=retry)
    back_off = c.MarkDue(task="main", due_at_ms=1_001_000)
    dead = [submit, fail(1), back_off, fail(2)]
    for life in (
        [c.SubmitJob(handler="h", queue="q", payload=Opaque("1"), due_at_ms=9_000_000), c.CancelJob()],
        [submit, start(1), c.CancelJob(), c.ReportCancelled(**who, assignment=1, ended_at_ms=2)],
        [submit, c.CancelJob(), start(1), fail(1)],
        [submit, start(1), c.ReportSucceeded(**who, **times, assignment=1, ended_at_ms=2)],
        [*dead, c.RedriveJob(), start(3), c.ReportCrashed(**who, **times, assignment=3)],
        [*dead, c.DiscardJob()],
    ):
        job: Any = None
        for command in life:
            decision = jobs.decide("job:t:1", job, command, 1_000_000 if command is not back_off else 1_001_000)
            assert isinstance(decision, list), decision
            records = []
            for event in decision:
                version = 1 if job is None else job.version + 1
                envelope: dict[str, Any] = {"id": "0", "seq": 1, "tenant": "t", "at_ms": 1, "command_id": "c"}
                record = EventRecord(
                    **envelope, originator_id="job:t:1", originator_version=version, actor=SYSTEM, data=event
                )
                job = mutate(job, record)
                records.append((record, job.status))
            yield from records
