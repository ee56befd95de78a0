"""What the scheduler leans on inside Faust, mode and aiokafka: known versions, in one file."""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka.consumer.fetcher import Fetcher

from jobledger.processors import faust_internals

FILES = sorted(Path(faust_internals.__file__).parent.glob("*.py"))
KNOWN = {name for names in faust_internals.NAMES.values() for name in names}


def departures() -> list[str]:
    """A sentence for each library of another version, and for each private name that is gone."""
    others = [
        f"{library} is {version(library)}, and processors/faust_internals.py was written for {known}."
        for library, known in faust_internals.VERSIONS.items()
        if version(library) != known
    ]
    gone = [
        f"{owner.__module__}.{owner.__qualname__} has no {name} any more, which processors/faust_internals.py uses."
        for owner, names in faust_internals.NAMES.items()
        for name in names
        if not _has(owner, name)
    ]
    return others + gone


def _has(owner: type, name: str) -> bool:
    """Whether a class has an attribute, or a method of it or of a base gives one to its instances."""
    return hasattr(owner, name) or any(name in _given(base) for base in owner.__mro__)


def _given(owner: type) -> set[str]:
    methods = filter(inspect.isfunction, vars(owner).values())
    return {step.argval for method in methods for step in dis.get_instructions(method) if step.opname == "STORE_ATTR"}


def test_the_libraries_are_as_they_were_when_this_was_written() -> None:
    """When this fails: look through processors/faust_internals.py with the new version, then note the version there."""
    assert departures() == []


def test_another_version_and_a_name_that_is_gone_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence each."""
    monkeypatch.setitem(faust_internals.VERSIONS, "aiokafka", "0.1")
    monkeypatch.setattr(faust_internals, "NAMES", {Fetcher: ("_fetch_task", "_fetch_thread")})
    other, gone = departures()
    assert other.startswith("aiokafka is 0.") and other.endswith("faust_internals.py was written for 0.1.")
    assert gone.startswith("aiokafka.consumer.fetcher.Fetcher has no _fetch_thread any more")


def _touched(path: Path) -> Iterator[str]:
    """Private names that a file reaches for in other objects, by a dot or by getattr, or overrides."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not own or node.attr in KNOWN:
                yield node.attr
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in KNOWN:
            yield node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_private_names_are_touched_in_one_file_only(path: Path) -> None:
    """And those that it touches are in its list. Kafka's error codes and asyncio's handles are others' matter."""
    if path.stem == "faust_internals":
        text = path.read_text(encoding="utf-8")
        assert set(_touched(path)) | {name for name in KNOWN if f'"{name}"' in text} == KNOWN
        return
    source = path.read_text(encoding="utf-8")
    if "import faust" in source or "from faust" in source or "import mode" in source or "AppService" in source:
        assert not list(_touched(path))
