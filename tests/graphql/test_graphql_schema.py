"""The exported schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from jobledger.graphql.bulk_input import RetryPolicyFields, SubmitJobFields, TagFields
from jobledger.graphql.export import default_path, export_schema
from jobledger.graphql.types.inputs import RetryPolicyInput, SubmitJobInput, TagInput

ROOT = Path(__file__).parents[2]


def test_the_committed_schema_is_the_one_that_is_served() -> None:
    committed = (ROOT / "schemas" / "schema.graphql").read_text()
    assert committed == export_schema(), "run: python -m jobledger.graphql.export > schemas/schema.graphql"
    assert default_path().resolve() == ROOT / "schemas" / "schema.graphql"


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [(SubmitJobFields, SubmitJobInput), (RetryPolicyFields, RetryPolicyInput), (TagFields, TagInput)],
)
def test_items_of_a_bulk_have_the_fields_of_the_input(fields: type[msgspec.Struct], inputs: type) -> None:
    definition = inputs.__strawberry_definition__  # type: ignore[attr-defined]
    assert [field.name for field in msgspec.structs.fields(fields)] == [
        field.python_name for field in definition.fields
    ]


def _fields(text: str) -> set[str]:
    return set(re.findall(r"^  (\w+: \S+)$", text.split("\n}", maxsplit=1)[0], re.MULTILINE))


def test_every_error_type_says_the_same_things() -> None:
    text = export_schema()
    interface = _fields(text.split("interface UserError {")[1])
    found = [_fields(part) for part in text.split(" implements UserError {")[1:]]
    assert len(found) >= 6 and all(interface <= fields for fields in found)
    assert [sorted(fields - interface) for fields in found if fields != interface] == [["status: JobStatus"]]
    assert json.dumps(text).count("union ") >= 5
