"""One client in four forms: asynchronous and synchronous, against an API and inline."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobledger
from jobledger import AsyncClient, AsyncJob, Client, Job, JobledgerError
from jobledger.client import errors
from jobledger.testing import AsyncInlineClient, AsyncInlineJob, InlineClient, InlineJob
from jobledger.workers import errors as handler_errors

ROOT = Path(__file__).parents[2]
#: What one form has for itself: the way to the API, and the virtual clock.
OWN = {
    AsyncClient: {"ask", "retrying"},
    AsyncInlineClient: {"advance", "finish", "now", "record", "run_due", "step"},
    AsyncJob: set(),
    AsyncInlineJob: {"attempts", "history", "last_checkpoint"},
}


def _surface(cls: type) -> dict[str, str]:
    """Public methods and their parameters, in the words of no twin in particular."""
    found = {}
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") and name not in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__"):
            continue
        if name == "__init__":
            continue
        if not callable(member):
            found[name] = "property"
            continue
        text = str(inspect.signature(member))
        for word, instead in (("Inline", ""), ("Async", ""), ("NoReturn", "dict[str, Any]")):
            text = text.replace(word, instead)
        found[re.sub("^__a(enter|exit)__$", r"__\1__", name)] = text
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [(AsyncClient, Client), (AsyncJob, Job), (AsyncInlineClient, InlineClient), (AsyncInlineJob, InlineJob)],
)
def test_the_synchronous_twin_has_the_same_methods(one: type, other: type) -> None:
    """Each with the same parameters, defaults and annotations."""
    first, second = _surface(one), _surface(other)
    assert first.keys() == second.keys()
    for name, signature in first.items():
        assert signature == second[name], name
    asynchronous = {name for name in first if inspect.iscoroutinefunction(getattr(one, name, None))}
    assert asynchronous
    assert not any(inspect.iscoroutinefunction(getattr(other, name, None)) for name in first)


@pytest.mark.parametrize(("real", "played"), [(AsyncClient, AsyncInlineClient), (AsyncJob, AsyncInlineJob)])
def test_the_inline_client_is_the_third_twin(real: type, played: type) -> None:
    """All that the real client has, with the same parameters; what it has besides is named here."""
    first, second = _surface(real), _surface(played)
    assert first.keys() - second.keys() == OWN[real]
    assert second.keys() - first.keys() == OWN[played]
    for name in first.keys() & second.keys():
        assert first[name].replace(", *, deadline: 'Deadline | None' = None", "") == second[name], name


def test_the_synchronous_clients_are_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "sync-client", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_type_checkers_see_is_what_it_should_be() -> None:
    """tests/typing holds the expectations, the refusals too."""
    command = [sys.executable, "-m", "mypy", "tests/typing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr


def _errors(module: object) -> set[str]:
    return {
        name
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == module.__name__  # type: ignore[attr-defined]
    }


def test_every_error_can_be_imported_from_the_package() -> None:
    for name in _errors(errors) | _errors(handler_errors):
        assert name in jobledger.__all__, name
        assert issubclass(getattr(jobledger, name), Exception)
    assert issubclass(jobledger.WaitTimeout, TimeoutError)
    assert all(issubclass(getattr(jobledger, name), JobledgerError) for name in _errors(errors))


def test_every_public_name_is_there() -> None:
    for name in jobledger.__all__:
        assert getattr(jobledger, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Clientele'"):
        _ = jobledger.Clientele


def test_importing_the_client_loads_nothing_heavy() -> None:
    """Neither Kafka nor Postgres, Faust, strawberry or eventsourcing: a web application imports it too."""
    code = (
        "import sys; from jobledger import Client, AsyncClient, BulkError, JobStatus, QueueFull, handler; "
        "heavy = {'confluent_kafka', 'psycopg', 'faust', 'strawberry', 'eventsourcing', 'starlette', 'opentelemetry'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
