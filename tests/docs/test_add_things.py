"""What the page on adding things names is there, and an option or setting is everywhere where it has to be."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from jobledger import Context
from jobledger.cli import queues as queue_commands
from jobledger.cli.submit import submit
from jobledger.client import JobOptions
from jobledger.client import JobSpec as SpecOfClient
from jobledger.client.questions import QueueOptions
from jobledger.domain.queue.settings import QueueSettings
from jobledger.domain.spec import JobSpec, TaskSpec
from jobledger.graphql.types import inputs
from jobledger.graphql.types.queues import Queue
from jobledger.projections.rows import QueueRow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "add-things.md").read_text(encoding="utf-8")

#: Fields of a job's spec that stand under another name, or not at all (None), and why.
ELSEWHERE: dict[str, dict[str, str | None]] = {
    "input": {
        "key_digest": "idempotency_key",
        "request_digest": None,  # made of the whole request
    },
    "client": {
        "timeout_seconds": "timeout",
        "expected_duration_seconds": "expected_duration",
        "key_digest": "idempotency_key",
        "request_digest": None,  # as above
    },
    "command line": {
        "handler": "name",
        "timeout_seconds": "timeout",
        "expected_duration_seconds": "expected_duration",
        "retry": "max_attempts",
        "key_digest": "idempotency_key",
        "request_digest": None,  # as above
    },
    "context": {
        "handler": None,  # the handler knows itself; log lines have it
        "payload": None,  # its first parameter
        "timeout_seconds": "deadline",
    },
}


def _strawberry(of: Any) -> set[str]:
    return {field.python_name for field in of.__strawberry_definition__.fields}


def _parameters(of: Any) -> set[str]:
    return set(inspect.signature(of).parameters)


PLACES: dict[str, tuple[type[Any], set[str]]] = {
    "input": (JobSpec, _strawberry(inputs.SubmitJobInput)),
    "client": (JobSpec, {field.name for field in dataclasses.fields(SpecOfClient)}),
    "command line": (JobSpec, _parameters(submit)),
    "context": (TaskSpec, set(dir(Context))),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_job_option_is_everywhere(place: str) -> None:
    """A field of the spec has its place in the input, the client, the command line and what the handler sees."""
    spec, found = PLACES[place]
    names = {name: ELSEWHERE[place].get(name, name) for name in spec.__struct_fields__}
    assert {name for name, there in names.items() if there is not None and there not in found} == set()
    assert not [name for name in ELSEWHERE[place] if name not in spec.__struct_fields__]


def test_options_of_submit_are_those_of_the_spec() -> None:
    names = {field.name for field in dataclasses.fields(SpecOfClient)}
    assert names == {"handler", "payload", *JobOptions.__annotations__}


@pytest.mark.parametrize(
    "found",
    [
        _strawberry(inputs.CreateQueueInput),
        _strawberry(inputs.UpdateQueueInput),
        _strawberry(Queue),
        set(QueueRow.__struct_fields__),
        set(QueueOptions.__annotations__),
        _parameters(queue_commands.create_queue),
        _parameters(queue_commands.update_queue),
    ],
    ids=["create input", "update input", "answer", "column", "client", "create", "update"],
)
def test_a_queue_setting_is_everywhere(found: set[str]) -> None:
    assert set(QueueSettings.__struct_fields__) <= found


@pytest.mark.parametrize("heading", ["A job option", "A queue setting"])
def test_a_list_has_as_many_files_as_it_says(heading: str) -> None:
    """That they exist is told with all other links."""
    text = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    told = re.search(r"\*\*(\d) files\*\*", text)
    assert told is not None and int(told[1]) == len(re.findall(r"^\| \[", text, re.MULTILINE)) <= 8
