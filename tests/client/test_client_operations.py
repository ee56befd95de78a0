"""What the client sends and gets is written from its operations and the API's schema, and follows both."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, parse, validate

from jobledger.cli import documents as cli_documents
from jobledger.graphql.export import export_schema

ROOT = Path(__file__).parents[2]
CLI_DOCUMENTS = {
    name: text for name, text in vars(cli_documents).items() if name.isupper() and not name.startswith("_")
}
SCHEMA = """
type Query { thing(kind: Kind!, words: [String!], page: Int! = 5): Thing, found(like: Like): [Found] }
enum Kind { BIG SMALL }
scalar JSON
input Like { kind: Kind, text: String!, first: Int! = 10 }
"A thing."
type Thing implements Named { name: String! size: Int parts: [Thing!]! data: JSON! kind: Kind! }
type Nothing implements Named { name: String! reason: String }
interface Named { name: String! }
union Found = Thing | Nothing
"""


@pytest.fixture(scope="module")
def generator() -> Any:
    """The module of scripts/sync-operations."""
    loader = SourceFileLoader("sync_operations", str(ROOT / "scripts" / "sync-operations"))
    spec = spec_from_loader("sync_operations", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _written(generator: Any, operations: str) -> dict[str, str]:
    modules = generator.Generator(build_schema(SCHEMA), parse(operations)).modules()
    return {name: re.sub(r"\s+", " ", text) for name, text in modules.items()}


def test_the_files_are_written_from_the_schema_that_the_api_has(generator: Any) -> None:
    written = generator.generated(export_schema(), generator.SOURCE.read_text())
    for name, text in written.items():
        assert (generator.FOLDER / f"{name}.py").read_text() == text, name


def test_types_say_what_may_be_missing_and_what_may_be_null(generator: Any) -> None:
    query = (
        "query ReadThing($kind: Kind!, $words: [String!]) { thing(kind: $kind, words: $words) { name size data kind } }"
    )
    written = _written(generator, query)
    assert (
        'class Thing(TypedDict): """A thing.""" name: str size: int | None data: Any kind: enums.Kind'
        in written["outputs"]
    )
    assert 'Kind = Literal["BIG", "SMALL"]' in written["enums"]
    assert (
        "def read_thing(kind: enums.Kind, words: list[str] | None = None) -> Operation[outputs.Thing | None]:"
        in written["documents"]
    )
    assert 'Operation(READ_THING, {"kind": kind, "words": words}, "thing")' in written["documents"]


def test_inputs_may_lack_what_has_a_default_or_may_be_null(generator: Any) -> None:
    written = _written(generator, "query Find($like: Like) { found(like: $like) { ... on Thing { name } } }")
    fields = "kind: NotRequired[enums.Kind | None] text: str first: NotRequired[int]"
    assert fields in written["inputs"]
    assert "def find(like: inputs.Like | None = None)" in written["documents"]


def test_a_union_has_a_type_for_each_member_told_apart_by_its_name(generator: Any) -> None:
    """Through fragments on interfaces, too; a type that is asked in another way has another name."""
    written = _written(
        generator,
        """fragment NamedFields on Named { name ... on Nothing { reason } }
        query Find { found { __typename ...NamedFields ... on Thing { parts { size } } } }""",
    )["outputs"]
    assert 'class Thing(TypedDict): """A thing.""" size: int | None' in written
    assert (
        'FindThing = TypedDict("FindThing", {"__typename": Literal["Thing"], "name": str, "parts": list[Thing], })'
        in written
    )
    assert '"__typename": Literal["Nothing"], "name": str, "reason": str | None, ' in written
    assert "Found = FindThing | Nothing" in written


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("query Read { thing(kind: BIG) { colour } }", "Cannot query field 'colour' on type 'Thing'"),
        ("query Read($kind: Kind) { thing(kind: $kind) { name } }", "expecting type 'Kind!'"),
        ("query Read { thing(kind: HUGE) { name } }", "HUGE"),
        ("query { thing(kind: BIG) { name } }", "needs a name"),
        ("query Read { thing(kind: BIG) { name } found { __typename } }", "asks one field"),
    ],
)
def test_operations_that_do_not_fit_are_refused(generator: Any, operation: str, fault: str) -> None:
    with pytest.raises(generator.InvalidOperationsError, match=re.escape(fault)):
        _written(generator, operation)


@pytest.mark.parametrize("name", sorted(CLI_DOCUMENTS))
def test_what_the_command_line_asks_is_in_the_schema(name: str) -> None:
    text = CLI_DOCUMENTS[name].replace("MUTATION", "retryQuarantined")
    assert validate(build_schema(export_schema()), parse(text)) == []
