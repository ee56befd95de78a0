"""What handlers log, however they do it and wherever they run; and what the worker tells of them: no payload."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import logging_handlers
import pytest
from logging_handlers import SECRET

from jobledger.domain.spec import TaskSpec
from jobledger.domain.values import Opaque
from jobledger.domain.worker_messages import RunTask
from jobledger.schemas.commands import Command
from jobledger.telemetry.library_logs import PrintedLines
from jobledger.telemetry.logs import LOGGERS
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing
from jobledger.workers.context import Context
from jobledger.workers.errors import CheckpointError
from jobledger.workers.execution import Execution, Surroundings
from jobledger.workers.handler import handler
from jobledger.workers.journal import Head, Journal
from jobledger.workers.lease import Lease, SharedDeadline
from jobledger.workers.measures import Measures
from jobledger.workers.pool_protocol import Run, Setup, frame
from jobledger.workers.reports import Reports
from jobledger.workers.spans import WorkerTracing
from jobledger.workers.task_info import TaskInfo

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-00"
IDS = {"job_id": "j", "tenant_id": "default", "execution_id": "e"}
TOLD = ["by ctx", "by logging", "by structlog", "by print", "unfinished"]


class Sender:
    """Takes commands as the producer does, and delivers them at the next turn."""

    def send(self, command: Command) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        return done

    def post(self, command: Command) -> None: ...


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    yield
    LOGGERS.change({})


def _lines(log_lines: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_lines.getvalue().splitlines()]


async def _execute(name: str, payload: object, lease: Lease | None = None) -> None:
    """One task through the product's execution, whose reports go nowhere."""
    lease, ended = lease or Lease(60.0), asyncio.Event()
    lease.confirm(lease._monotonic())
    head = Head(worker="w", pool="p", handlers=[], queues=[], topic="t", partitions=1, kafka={})
    journal = Journal(head, 1)
    around = Surroundings(
        worker="w",
        reports=Reports(Sender(), "w", lambda: "id", lambda error: None),
        pool=None,
        lease=lease,
        measures=Measures(Metrics("worker", instance_id="w", version="0", pool="p"), 1),
        tracing=WorkerTracing(Tracing(), "w"),
        journal=journal,
    )
    run = RunTask(
        worker="w",
        incarnation="i",
        job="job:default:j",
        task="main",
        execution_id="e",
        attempt=1,
        assignment=1,
        handler=name,
        queue="default",
        payload=Opaque(json.dumps(payload)),
        due_at_ms=0,
        assigned_at_ms=0,
        traceparent=TRACE,
    )
    with contextlib.redirect_stdout(PrintedLines()):
        Execution(run, getattr(logging_handlers, name), around, lambda _: ended.set()).start()
        await asyncio.wait_for(ended.wait(), 10)
    await asyncio.sleep(0.01)
    journal.close()


@pytest.mark.scenario("a handler logs")
@pytest.mark.parametrize("name", ["tell_loop", "tell_thread"])
async def test_every_line_of_a_handler_carries_its_job_execution_and_trace(name: str, log_lines: io.BytesIO) -> None:
    """By ctx.logger, logging, structlog and print; also the end of a print that the handler has left open."""
    LOGGERS.change({f"handlers.{name}": "INFO"})
    await _execute(name, {"card": SECRET})
    found = [line for line in _lines(log_lines) if line["event"] == "handler_log"]
    assert [line["message"] for line in found] == TOLD
    for line in found:
        assert {key: line["context"][key] for key in IDS} == IDS
        assert (line["context"]["handler"], line["context"]["attempt"]) == (name, 1)
        assert line["trace_id"] == "ab" * 16
    assert SECRET not in log_lines.getvalue().decode()


@pytest.mark.parametrize("name", ["tell_loop", "tell_thread", "betray", "betray_thread"])
async def test_no_line_of_the_worker_tells_payloads_results_checkpoints_or_texts_of_errors(
    name: str, log_lines: io.BytesIO
) -> None:
    """At DEBUG; also of a payload that does not fit."""
    await _execute(name, {"card": SECRET})
    await _execute(name, {"card": 1, "count": SECRET})
    events = {line["event"] for line in _lines(log_lines)}
    assert {"task_started", "task_failed"} <= events
    assert SECRET not in log_lines.getvalue().decode()
    failed = [line["context"] for line in _lines(log_lines) if line["event"] == "task_failed"]
    assert {one["error"] for one in failed} <= {"PayloadError", "RuntimeError", "KeyError"}


@pytest.mark.scenario("a checkpoint is refused")
async def test_a_checkpoint_after_the_lease_is_not_sent_and_told(
    log_lines: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(60.0)

    def late(payload: object, ctx: Context) -> None:
        lease.revoke()
        ctx.checkpoint(payload)

    monkeypatch.setattr(logging_handlers, "late", handler("late", run_in="thread")(late), raising=False)
    await _execute("late", 1, lease)
    assert "checkpoint_failed" in [line["event"] for line in _lines(log_lines)]
    assert "checkpoint_saved" not in [line["event"] for line in _lines(log_lines)]


async def test_the_line_of_a_checkpoint_tells_how_far_the_handler_is(log_lines: io.BytesIO) -> None:
    """In percent, as it has said; nothing where it has not."""
    await _execute("tell_loop", {"card": "x"})
    await _execute("tell_thread", {"card": "x"})
    saved = [line["context"]["progress"] for line in _lines(log_lines) if line["event"] == "checkpoint_saved"]
    assert saved == ["40%", None]


@pytest.mark.parametrize("progress", [-1, 100.5, float("nan")])
def test_a_progress_that_is_no_percentage_is_refused(progress: float) -> None:
    saved: list[Any] = []
    with pytest.raises(CheckpointError, match="0 to 100"):
        Context(_info("x"), save=saved.append).checkpoint(1, progress=progress)
    assert saved == []


def _info(name: str) -> TaskInfo:
    return TaskInfo(
        job_id="j",
        tenant="default",
        task="main",
        execution_id="e",
        attempt=1,
        assignment=1,
        spec=TaskSpec(handler=name, payload=Opaque(json.dumps({"card": SECRET}))),
        queue="q",
        worker="w",
        traceparent=TRACE,
    )


def test_a_process_of_the_pool_logs_as_the_worker_does_with_the_levels_of_the_worker() -> None:
    """Two calls: the second one after somebody has asked the worker for DEBUG of this handler."""
    deadline = SharedDeadline()
    deadline.set(time.monotonic() + 60)
    ours, theirs = socket.socketpair()
    code = f"import sys; sys.path[:] = {sys.path!r}; from jobledger.workers.pool_child import main; main()"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), str(deadline.descriptor)],
            pass_fds=(theirs.fileno(), deadline.descriptor),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    ours.sendall(frame(Setup(path=sys.path, modules=["logging_handlers"], instance_id="w-1", log_level="INFO")))
    ours.sendall(frame(Run(info=_info("tell_process"))))
    ours.sendall(frame(Run(info=_info("tell_process"), log_levels={"handlers.tell_process": "DEBUG"})))
    seen = b""
    while seen.count(b"Ended") < 2:
        seen += ours.recv(65_536)
    ours.close()
    out, _ = process.communicate(timeout=10)
    deadline.close()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["message"] for line in found] == [*TOLD, "by ctx, in detail", *TOLD]
    for line in found:
        assert (line["event"], line["service"], line["instance_id"]) == ("handler_log", "worker", "w-1")
        assert {key: line["context"][key] for key in IDS} == IDS
        assert line["trace_id"] == "ab" * 16
    assert SECRET.encode() not in out
