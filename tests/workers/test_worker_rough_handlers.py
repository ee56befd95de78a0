"""Handlers that fork, die with children, or raise what can't be told."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from worker_cell import WorkerCell

from jobledger.domain.job.commands import ReportFailed, ReportSucceeded

pytestmark = pytest.mark.kafka


@pytest.fixture
def owners(shared_cell: WorkerCell) -> WorkerCell:
    """No test of this file does anything to the owners."""
    return shared_cell


async def test_a_death_is_noticed_though_a_child_of_the_handler_lives(
    owners: Any, start_worker: Any, tmp_path: Path
) -> None:
    """The child holds the connection open; the attempt fails all the same, and the child is killed."""
    await start_worker()
    written = tmp_path / "child"
    await owners.run("j1", "bereft", str(written))
    assert (await owners.report(ReportFailed, "j1")).error_type == "ProcessDied"
    child = int(written.read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {child} still runs"
        await asyncio.sleep(0.01)


async def test_a_handler_that_returns_in_a_copy_too_ends_once(owners: Any, start_worker: Any) -> None:
    """The end that the copy would tell must not be taken for that of the next task in the process."""
    await start_worker(worker_slots=1)
    for number in range(1, 5):
        await owners.run(f"j{number}", "doubled", number)
        assert (await owners.report(ReportSucceeded, f"j{number}")).result.data == str(number)


@pytest.mark.parametrize("name", ["unspeakable_process", "unspeakable_thread"])
async def test_an_error_without_a_text_is_reported_by_its_class(owners: Any, start_worker: Any, name: str) -> None:
    await start_worker()
    await owners.run("j1", name, None)
    failed = await owners.report(ReportFailed, "j1")
    assert failed.error_type == "UnspeakableError"
    assert "RuntimeError" in json.loads(failed.error.data)["message"]


async def test_a_lone_surrogate_in_an_error_is_read_by_strict_readers(owners: Any, start_worker: Any) -> None:
    await start_worker()
    await owners.run("j1", "surrogate", None)
    failed = await owners.report(ReportFailed, "j1")
    assert msgspec.json.decode(failed.error.data.encode())["message"] == "lone \\ud800 half"
