"""What the scheduler leans on inside Faust, mode and aiokafka: known versions, in one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.consumer.fetcher import Fetcher

from jobledger.processors import faust_internals

FILES = sorted(Path(faust_internals.__file__).parent.glob("*.py"))
KNOWN = {name for names in faust_internals.NAMES.values() for name in names}


def test_the_libraries_are_as_they_were_when_this_was_written() -> None:
    """When this fails: look through processors/faust_internals.py with the new version, then note the version there."""
    assert faust_internals.departures() == []


def test_another_version_and_a_name_that_is_gone_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence each."""
    monkeypatch.setitem(faust_internals.VERSIONS, "aiokafka", "0.1")
    monkeypatch.setattr(faust_internals, "NAMES", {Fetcher: ("_fetch_task", "_fetch_thread")})
    version, name = faust_internals.departures()
    assert version.startswith("aiokafka is 0.") and version.endswith("faust_internals.py was written for 0.1.")
    assert name.startswith("aiokafka.consumer.fetcher.Fetcher has no _fetch_thread any more")


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
