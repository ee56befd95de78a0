"""What the client sends is valid against the schema that the API has."""

from __future__ import annotations

import pytest
from graphql import build_schema, parse, validate

from jobledger.client import documents
from jobledger.graphql.export import export_schema

DOCUMENTS = {name: text for name, text in vars(documents).items() if name.isupper() and isinstance(text, str)}
DOCUMENTS = {name: text for name, text in DOCUMENTS.items() if "{" in text and not name.startswith("_") and "(" in text}


@pytest.fixture(scope="module")
def schema() -> object:
    return build_schema(export_schema())


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_each_document_is_valid(name: str, schema: object) -> None:
    assert validate(schema, parse(DOCUMENTS[name])) == []  # type: ignore[arg-type]


def test_all_of_them_are_tried() -> None:
    assert {
        "SUBMIT",
        "SUBMIT_MANY",
        "CANCEL",
        "REDRIVE",
        "DISCARD",
        "JOBS",
        "STATUSES",
        "EVENTS",
        "ENDS",
    } <= DOCUMENTS.keys()
