"""What the documentation says of the client: its examples run against the inline twin, its errors are all named."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import jobledger
from jobledger.client import JobOptions, JobSpec, errors
from jobledger.testing import inline
from jobledger.workers import errors as handler_errors

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")


def _examples(page: str) -> list[CodeType]:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [compile(block, page, "exec", flags=flags) for block in found]


async def _run(code: CodeType, names: dict[str, Any]) -> None:
    waits = eval(code, names)
    if inspect.isawaitable(waits):
        await waits


@pytest.mark.parametrize("code", _examples("client.md"), ids=lambda code: str(code.co_names[:3]))
async def test_examples_of_the_client_run(code: CodeType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from examples.handlers import send_email

    def played(*_: object, **__: object) -> Any:
        return inline(send_email)

    monkeypatch.setattr(jobledger, "Client", played)
    monkeypatch.setattr(jobledger, "AsyncClient", played)
    await _run(code, {})


@pytest.mark.parametrize("code", _examples("test-your-handlers.md"), ids=lambda code: str(code.co_names[:3]))
async def test_examples_of_tests_pass(code: CodeType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in them."""
    monkeypatch.syspath_prepend(str(ROOT))
    names: dict[str, Any] = {"__name__": "documented"}
    monkeypatch.setitem(sys.modules, "documented", sys)  # where annotations of handlers are looked up
    await _run(code, names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        waits = test()
        if inspect.isawaitable(waits):
            await waits


@pytest.mark.parametrize("module", [errors, handler_errors], ids=lambda module: module.__name__)
def test_every_error_class_is_named(module: Any) -> None:
    for name, cls in vars(module).items():
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == module.__name__:
            assert f"`{name}`" in ERRORS, name


def test_parameters_of_submit_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "how-to" / "client.md").read_text(encoding="utf-8")
    listed = re.search(r"^`submit\((.*)\)`$", text, re.MULTILINE)
    assert listed is not None
    _, *parameters, options = inspect.signature(jobledger.AsyncClient.submit).parameters
    assert options == "options"
    assert listed[1].replace("*, ", "").split(", ") == [*parameters, *JobOptions.__annotations__]
    assert {*parameters, *JobOptions.__annotations__} == {field.name for field in dataclasses.fields(JobSpec)}
