"""Part of pytest here: a test marked with a scenario fails unless what the scenario emits was seen while it ran.

    @pytest.mark.scenario("a scheduler is killed")
    @pytest.mark.scenario("the clock is wrong", emits=("clock_skewed", "clock_right"))

Without `emits` the test answers for all rows of the scenario. What is seen is what this process and those of the roles
that the test started have emitted, from the test's first fixture to the end of its last.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import emissions
import pytest

from jobledger.telemetry.catalogue import DECLARED

#: Other processes write what they emit at once, but what they do may take them a moment.
WAIT_SECONDS = 3.0

_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_begun = pytest.StashKey[float]()
_passed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_folder] = folder = tempfile.TemporaryDirectory(
        prefix="jobledger-emitted-", ignore_cleanup_errors=True
    )
    emissions.keep_in(Path(folder.name) / "emitted")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_folder].cleanup()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    item.stash[_begun] = time.monotonic()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield
    item.stash[_passed] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    seen = emissions.seen_since(item.stash[_begun])
    if undeclared := seen - DECLARED.keys():
        pytest.fail(f"emitted, but declared in none of the tables in telemetry/: {', '.join(sorted(undeclared))}")
    if item.stash.get(_passed, False) and (missing := _missing(item)):
        pytest.fail(f"declared for the scenario of this test, but not emitted: {', '.join(sorted(missing))}")


def _missing(item: pytest.Item) -> set[str]:
    wanted = {name for mark in item.iter_markers("scenario") for name in rows_of(mark)}
    deadline = time.monotonic() + WAIT_SECONDS
    while wanted and (missing := wanted - emissions.seen_since(item.stash[_begun])):
        if time.monotonic() > deadline:
            return missing
        time.sleep(0.1)
    return set()


def rows_of(mark: pytest.Mark) -> tuple[str, ...]:
    """The rows that a test answers for by one mark."""
    (scenario,) = mark.args
    emits: tuple[str, ...] = mark.kwargs.get("emits", ())
    return emits or tuple(name for name, row in DECLARED.items() if row.scenario == scenario)
