"""Handlers that take their worker down, or its event loop: their attempt counts, and it is said which they were."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import emissions
import pytest
from worker_cell import LEASE_SECONDS, WorkerCell

from jobledger.domain.job.commands import FailureKind, ReportCrashed, ReportFailed, ReportStarted, ReportSucceeded
from jobledger.domain.queue.commands import SetCredits
from jobledger.domain.values import RetryPolicy
from jobledger.workers.watchdog import EXIT_BLOCKED

pytestmark = pytest.mark.kafka


@pytest.fixture
def owners(request: pytest.FixtureRequest, lease_seconds: float) -> WorkerCell:
    """Those of the file, but for a test that wants another lease of them."""
    name = "shared_cell" if lease_seconds == LEASE_SECONDS else "own_cell"
    found: WorkerCell = request.getfixturevalue(name)
    return found


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    for line in lines:
        emissions.note(line["event"])
    return [line["context"] for line in lines if line["event"] == event]


@pytest.mark.scenario("a handler harms its worker", emits=("worker_crashed",))
@pytest.mark.scenario("a worker is started", emits=("handlers_loaded",))
async def test_a_worker_that_dies_tells_what_it_was_on(owners: Any, start_role: Any, tmp_path: Path) -> None:
    """`os._exit` in a second attempt: its job hears of it, and that of the handler beside it; the queue hands nothing
    more to the worker."""
    worker = start_role("w-1")
    incarnation = await owners.registered("w-1")
    await owners.run("done", "echo", {"to": "a@b"})
    await owners.report(ReportSucceeded, "done")
    beside = await owners.run("beside", "journal_async", str(tmp_path / "started"))
    await owners.report(ReportStarted, "beside")
    again = RetryPolicy(max_attempts=3, initial_seconds=0.05)
    await owners.run("deadly", "quits", None, retry=again)
    crashed = await owners.report(ReportCrashed, "deadly", 60.0)
    assert worker.wait(10) == 3
    assert (crashed.assignment, crashed.worker, crashed.incarnation) == (2, "w-1", incarnation)
    deadly = owners.stream("deadly")
    (run,) = [one for one in owners.messages if (one.job, one.assignment) == (deadly, 2)]
    assert crashed.assigned_at_ms == run.assigned_at_ms <= crashed.started_at_ms
    assert (await owners.report(ReportCrashed, "beside")).assigned_at_ms == beside.assigned_at_ms
    assert owners.of(ReportCrashed, "done") == []
    assert await owners.until(lambda: [c for c in owners.of(SetCredits) if c.credits == 0])
    told = await owners.until(lambda: _lines(tmp_path / "w-1.log", "worker_crashed"))
    assert sorted(told[0]["running"]) == [
        f"journal_async of {owners.stream('beside')}",
        f"quits of {deadly}",
    ]
    printed = [line for line in _lines(tmp_path / "w-1.log", "handler_log") if line["logger"] == "stdout"]
    assert [line["job_id"] for line in printed] == [owners.id("deadly")] * 2


@pytest.mark.scenario("a handler harms its worker", emits=("loop_blocked",))
@pytest.mark.parametrize("lease_seconds", [3.0])
async def test_a_blocked_loop_loses_no_lease_and_is_told(owners: Any, start_role: Any, tmp_path: Path) -> None:
    """An async handler that sleeps for more than two leases: its start is reported meanwhile, the log names it with
    its stack, the worker stays what it is, and the others go on afterwards."""
    start_role("w-1", JOBLEDGER_LEASE_SECONDS="3", JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS="0.5")
    incarnation = await owners.registered("w-1")
    await owners.run("beside", "sleepy", 1.0)
    await owners.report(ReportStarted, "beside")
    begun = time.monotonic()
    await owners.run("j1", "blocker", 8.0)
    await owners.report(ReportStarted, "j1")
    assert time.monotonic() - begun < 7.0
    [blocked] = await owners.until(lambda: _lines(tmp_path / "w-1.log", "loop_blocked"))
    assert (blocked["handler"], blocked["job_id"]) == ("blocker", owners.id("j1"))
    assert "time.sleep(payload)" in blocked["stack"]
    for job in ("j1", "beside"):
        assert (await owners.report(ReportSucceeded, job, 30.0)).incarnation == incarnation
    assert {c.incarnation for c in owners.of(SetCredits)} == {incarnation}


async def test_a_handler_that_blocks_beyond_its_limit_ends_its_worker(owners: Any, start_role: Any) -> None:
    """Nothing else can stop it: it is reported as timed out, the one beside it as lost with its worker."""
    worker = start_role("w-1")
    await owners.registered("w-1")
    await owners.run("beside", "sleepy", 60.0)
    await owners.report(ReportStarted, "beside")
    await owners.run("j1", "blocker", 60.0, timeout_seconds=0.5)
    failed = await owners.report(ReportFailed, "j1", 30.0)
    assert (failed.kind, failed.retryable) == (FailureKind.TIMEOUT, True)
    assert (
        "Handler 'blocker' blocked the worker's event loop beyond its limit" in json.loads(failed.error.data)["message"]
    )
    await owners.report(ReportCrashed, "beside", 60.0)
    assert await asyncio.to_thread(worker.wait, 10) == EXIT_BLOCKED
    assert owners.of(ReportCrashed, "j1") == []


@pytest.mark.parametrize("handler", ["echo", "threaded_echo", "square"])
async def test_a_start_is_on_the_log_first_where_that_is_asked_for(
    owners: Any, start_worker: Any, handler: str
) -> None:
    """By a policy of one attempt. The report of the start stands before that of the end, wherever the handler runs;
    and not in one with it."""
    await start_worker()
    payload: Any = 3 if handler == "square" else {"to": "a@b"}
    await owners.run("j1", handler, payload, retry=RetryPolicy(max_attempts=1))
    await owners.report(ReportSucceeded, "j1")
    said = [type(c.body).__name__ for c in owners.commands if c.stream == owners.stream("j1")]
    assert said == ["ReportStarted", "ReportSucceeded"]
