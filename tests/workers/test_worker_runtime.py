from __future__ import annotations

import asyncio
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from delaying_proxy import kafka_line
from worker_cell import WorkerCell

from jobledger.bootstrap.dependencies import add_queue
from jobledger.bootstrap.worker import add_worker
from jobledger.domain.job.commands import (
    FailureKind,
    ReportCancelled,
    ReportCheckpoint,
    ReportFailed,
    ReportReturned,
    ReportStarted,
    ReportSucceeded,
)
from jobledger.domain.queue.commands import RemoveWorker, SetCredits
from jobledger.domain.values import RetryPolicy
from jobledger.settings import Settings
from jobledger.telemetry.health import Health
from jobledger.workers.registry import load_handlers
from jobledger.workers.runtime import LEAVE_PAUSES, WorkerConfigError, credits_of

pytestmark = pytest.mark.kafka
AGAIN = RetryPolicy(max_attempts=2, initial_seconds=0.05)


@pytest.fixture
def owners(shared_cell: WorkerCell) -> WorkerCell:
    """No test of this file does anything to the owners."""
    return shared_cell


async def _written(path: Path) -> list[int]:
    """Numbers in a file, as soon as it is there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):  # noqa: ASYNC240
            return [int(part) for part in text.split() if part.isdigit()]
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def _until_gone(pid: int, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not _gone(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        await asyncio.sleep(0.01)


async def test_registers_with_credits_then_runs_and_reports_in_one(owners: Any, start_worker: Any) -> None:
    """A short task yields one report with start and end; the worker registered with its handlers and credits first."""
    _, incarnation = await start_worker(worker_queues=["default", "mail"], worker_slots=5)

    def told() -> dict[str, SetCredits]:
        return {c.stream: c.body for c in owners.commands if isinstance(c.body, SetCredits)}

    await owners.until(lambda: len(told()) >= 2)  # the queues need not live on the same partition
    granted = told()
    assert {stream: body.credits for stream, body in granted.items()} == {
        f"queue:{owners.tenant}:default": 3,
        f"queue:{owners.tenant}:mail": 2,
    }
    assert "echo" in granted[f"queue:{owners.tenant}:default"].handlers
    run = await owners.run("j1", "echo", {"to": "a@b"})
    done = await owners.report(ReportSucceeded, "j1")
    assert json.loads(done.result.data) == {"to": "a@b", "copies": 1, "attempt": 1, "execution": run.execution_id}
    assert (done.assignment, done.worker, done.incarnation) == (1, "w-1", incarnation)
    assert run.assigned_at_ms <= done.started_at_ms <= done.ended_at_ms
    assert owners.of(ReportStarted, "j1") == []
    assert told().keys() == granted.keys()


async def test_plain_function_runs_in_another_process(owners: Any, start_worker: Any) -> None:
    await start_worker()
    await owners.run("j1", "pid", {})
    done = await owners.report(ReportSucceeded, "j1")
    assert int(done.result.data) != os.getpid()


async def test_longer_handler_is_reported_as_started(owners: Any, start_worker: Any) -> None:
    await start_worker()
    await owners.run("j1", "sleepy", 0.3)
    started = await owners.report(ReportStarted, "j1")
    assert owners.of(ReportSucceeded, "j1") == []
    done = await owners.report(ReportSucceeded, "j1")
    assert done.started_at_ms == started.started_at_ms


@pytest.mark.scenario("an inbox holds a broken record")
async def test_repeats_and_other_incarnations_are_dropped(owners: Any, start_worker: Any) -> None:
    """The same assignment again runs once; a message for another incarnation, or one that is none, never runs."""
    await start_worker()
    run = await owners.run("j1", "echo", {"to": "x"})
    await owners.put(run, run)
    await owners.put_bytes("w-1", run.incarnation.encode())
    await owners.grant("w-1", "00000000-0000-7000-8000-000000000000", ["echo"], "another")
    other = await owners.run("j2", "echo", {"to": "x"}, queue="another")
    assert (other.worker, other.incarnation) == ("w-1", "00000000-0000-7000-8000-000000000000")
    await owners.run("j3", "echo", {"to": "x"})
    await owners.report(ReportSucceeded, "j3")
    await asyncio.sleep(0.2)
    assert len(owners.of(ReportSucceeded, "j1")) == 1
    assert owners.of(ReportSucceeded, "j2") == []


@pytest.mark.scenario("a handler takes too long", emits=("task_timeout",))
async def test_time_out_kills_the_process_and_what_it_started(owners: Any, start_worker: Any, tmp_path: Path) -> None:
    """A plain handler over its limit is killed with its own children before TIMEOUT is reported; the next one runs."""
    await start_worker()
    await owners.run("j1", "spin", str(tmp_path / "pids"))
    failed = await owners.report(ReportFailed, "j1")
    pids = await _written(tmp_path / "pids")
    assert (failed.kind, failed.retryable) == (FailureKind.TIMEOUT, True)
    assert _gone(pids[0])
    await _until_gone(pids[1], 1.0)
    assert failed.ended_at_ms - failed.started_at_ms < 2_000
    await owners.run("j2", "square", 7)
    assert (await owners.report(ReportSucceeded, "j2")).result.data == "49"


async def test_async_time_out_and_the_jobs_own_limit(owners: Any, start_worker: Any) -> None:
    """The limit of the job counts where it names one."""
    await start_worker()
    await owners.run("j1", "sleepy", 30.0, timeout_seconds=0.2)
    failed = await owners.report(ReportFailed, "j1", 5.0)
    assert failed.kind is FailureKind.TIMEOUT


@pytest.mark.scenario("a job is cancelled")
async def test_cancel_before_start_and_while_running(owners: Any, start_worker: Any, tmp_path: Path) -> None:
    """A task cancelled in the same breath never starts; a running one is stopped, however it runs."""
    _, incarnation = await start_worker()
    other = tmp_path / "never"
    await owners.grant("w-1", "none", ["journal_async"], "another")
    told = [await owners.run("j0", "journal_async", str(other), queue="another"), await owners.cancel("j0")]
    await owners.put(*(msgspec.structs.replace(one, incarnation=incarnation) for one in told))
    await owners.report(ReportCancelled, "j0")
    assert not other.exists()
    jobs = {"j1": "journal_async", "j2": "stubborn", "j3": "polite"}
    for job, handler in jobs.items():
        await owners.run(job, handler, str(tmp_path / job))
        await _written(tmp_path / job)
    for job in jobs:
        await owners.cancel(job)
    for job in jobs:
        await owners.report(ReportCancelled, job)
        assert owners.of(ReportSucceeded, job) == owners.of(ReportFailed, job) == []


async def test_thread_is_asked_to_stop(owners: Any, start_worker: Any) -> None:
    await start_worker()
    await owners.run("j1", "threaded", 30.0)
    await owners.report(ReportStarted, "j1")
    await owners.cancel("j1")
    await owners.report(ReportCancelled, "j1")
    await owners.run("j2", "threaded", 0.0)
    await owners.report(ReportSucceeded, "j2")


@pytest.mark.scenario("a handler fails")
async def test_failures_are_told_with_their_kind(owners: Any, start_worker: Any, log_lines: io.BytesIO) -> None:
    """Non-serialisable and oversized results, wrong payloads, NonRetryable and a died process each fail clearly."""
    _, incarnation = await start_worker()
    cases: dict[str, tuple[str, Any, str, bool]] = {
        "j1": ("unserialisable", None, "ResultError", False),
        "j2": ("huge", None, "ResultError", False),
        "j3": ("echo", {"nobody": 1}, "PayloadError", False),
        "j4": ("hopeless", None, "NonRetryable", False),
        "j5": ("suicidal", None, "ProcessDied", True),
    }
    for job, (handler, payload, _, _) in cases.items():
        await owners.run(job, handler, payload)
        failed = await owners.report(ReportFailed, job)
        assert (failed.error_type, failed.retryable) == cases[job][2:], job
        assert json.loads(failed.error.data)["message"]
    await owners.grant("w-1", incarnation, ["nobody"], "another")
    await owners.run("j6", "nobody", None, queue="another")
    await owners.report(ReportReturned, "j6")
    assert b'"event":"pool_process_died"' in log_lines.getvalue()


async def test_checkpoints_reach_the_log_before_the_failure(owners: Any, start_worker: Any) -> None:
    """The last checkpoint stands in the log before the report of the failure, and a later attempt starts from it."""
    await start_worker()
    await owners.run("j1", "steps", 6, retry=AGAIN)
    failed = await owners.report(ReportFailed, "j1")
    bodies = [c.body for c in owners.commands if c.stream == owners.stream("j1")]
    last = bodies[bodies.index(failed) - 1]
    assert isinstance(last, ReportCheckpoint)
    assert json.loads(last.checkpoint.data) == [0, 1, 2, 3]
    assert json.loads((await owners.report(ReportSucceeded, "j1")).result.data) == [0, 1, 2, 3, 4, 5]


@pytest.mark.scenario("a worker is drained")
@pytest.mark.parametrize("leave_pauses", [LEAVE_PAUSES], ids=["real pauses"])
async def test_drain_lets_what_runs_end_and_hands_the_rest_back(owners: Any, start_worker: Any) -> None:
    """stop(): credits 0, the running task ends and is reported, a task that comes late is returned, then it leaves."""
    worker, incarnation = await start_worker()
    await owners.run("j1", "sleepy", 1.0)
    await owners.report(ReportStarted, "j1")
    stopping = asyncio.create_task(worker.stop())
    await owners.until(lambda: [c for c in owners.of(SetCredits) if c.credits == 0])
    await owners.grant("w-1", incarnation, ["sleepy"], "another")
    await owners.run("j2", "sleepy", 1.0, queue="another")
    await owners.report(ReportReturned, "j2")
    await owners.report(ReportSucceeded, "j1")
    await stopping
    await owners.until(lambda: owners.of(RemoveWorker))
    await worker.stop()


async def test_drain_that_takes_too_long_fails_the_attempt(owners: Any, start_worker: Any, tmp_path: Path) -> None:
    """What still runs after the drain time is stopped and reported as a failure that may be tried again."""
    worker, _ = await start_worker(drain_seconds=0.3)
    await owners.run("j1", "sleepy", 60.0)
    await owners.run("j2", "stubborn", str(tmp_path / "pid"))
    (pid,) = await _written(tmp_path / "pid")
    await worker.stop()
    for job in ("j1", "j2"):
        failed = await owners.report(ReportFailed, job)
        assert (failed.error_type, failed.retryable) == ("WorkerStopping", True)
    assert _gone(pid)


async def test_more_tasks_than_slots_are_handed_back(owners: Any, start_worker: Any) -> None:
    _, incarnation = await start_worker(worker_slots=1)
    await owners.grant("w-1", incarnation, ["sleepy"], "another")
    await owners.run("j1", "sleepy", 1.0)
    await owners.run("j2", "sleepy", 1.0, queue="another")
    await owners.report(ReportReturned, "j2")
    await owners.report(ReportSucceeded, "j1")


async def test_trace_goes_on_and_metrics_count(owners: Any, start_worker: Any) -> None:
    """A first attempt stays in the submitter's trace; a later one of a sampled trace begins its own; both count."""
    worker, _ = await start_worker()
    trace = "00-" + "a" * 32 + "-" + "b" * 16
    await owners.run("j1", "traced", None, traceparent=f"{trace}-00")
    await owners.run("j2", "traced", None, traceparent=f"{trace}-01")
    await owners.run("j3", "traced_later", None, traceparent=f"{trace}-01", retry=AGAIN)
    seen = [json.loads((await owners.report(ReportSucceeded, job)).result.data) for job in ("j1", "j2", "j3")]
    assert [text[3:35] == "a" * 32 for text in seen] == [True, True, False]
    reports = [c for c in owners.commands if isinstance(c.body, ReportSucceeded)]
    assert {c.traceparent[3:35] for c in reports} == {"a" * 32}
    text = worker._measures._metrics.render()[0].decode()
    assert 'worker_tasks_completed_total{pool="default",status="SUCCESS",worker_id="w-1"} 3.0' in text
    assert 'worker_concurrent_executions{pool="default",worker_id="w-1"} 0.0' in text
    assert 'worker_tasks_received_total{pool="default",worker_id="w-1"} 4.0' in text
    assert 'worker_memory_usage_bytes{pool="default",worker_id="w-1"}' in text
    shown = worker._measures._metrics.render("application/openmetrics-text; version=1.0.0")[0].decode()
    traced = [line for line in shown.splitlines() if f'trace_id="{"a" * 32}"' in line]
    assert {line.partition("_bucket")[0] for line in traced} == {"worker_execution_duration_seconds"}


def test_more_queues_than_slots_is_a_clear_error() -> None:
    with pytest.raises(WorkerConfigError, match="JOBLEDGER_WORKER_SLOTS to 2"):
        credits_of(Settings(worker_queues=["a", "b"], worker_slots=1))


async def test_a_worker_tells_its_health(
    owners: WorkerCell, start_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue, its lease and its handlers; while Kafka does not hear it, it is not ready."""
    monkeypatch.setattr("jobledger.bootstrap.dependencies.KEEP_SECONDS", 0.0)
    health = Health("1")

    async def becomes(status: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := (await health.status())[1]["components"])["lease"]["status"] != status:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return dict(found)

    async with kafka_line(owners.kafka.bootstrap_servers) as (servers, proxy):
        through = owners.kafka.model_copy(update={"bootstrap_servers": servers})
        worker, _ = await start_worker(kafka=through, lease_seconds=2.0, heartbeat_interval_seconds=0.5)
        settings = Settings(cell=owners.cell, kafka=through, worker_slots=4)
        add_queue(health, settings, "w-1")
        add_worker(health, settings, worker, load_handlers(["sample_handlers"]))
        health.set_ready(True)
        found = await becomes("HEALTHY")
        assert found["queue"]["status"] != "UNHEALTHY" and found["queue"]["latency_ms"] > 0, found
        assert "spin" in found["handlers"]["handlers"] and found["handlers"]["slots"] == 4, found
        assert (await health.ready())[0] == 200
        monkeypatch.setattr("jobledger.bootstrap.dependencies.ANSWER_SECONDS", 1.0)
        add_queue(health, settings, "w-1")
        proxy.hold()
        found = await becomes("UNHEALTHY")
        assert found["queue"]["status"] == "UNHEALTHY", found
        assert (await health.ready())[0] == 503 and health.live()[0] == 200
        proxy.release()
        await becomes("HEALTHY")
        await worker.stop()
