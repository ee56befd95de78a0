"""What a worker tells when somebody that it leans on is gone: its keeper, a process of its pool, the producer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from jobledger.domain.job.commands import ReportStarted
from jobledger.eventlog.producer import BackpressureError
from jobledger.schemas.commands import Command
from jobledger.workers import reports
from jobledger.workers.journal import Head, Journal
from jobledger.workers.keeper import Keeper
from jobledger.workers.pool import PoolProcess
from jobledger.workers.reports import Reports

STARTED = ReportStarted(task="main", assignment=1, worker="w", incarnation="i", assigned_at_ms=1, started_at_ms=2)


def _events(lines: Any) -> list[str]:
    return [line["event"] for line in lines]


@pytest.mark.scenario("a handler harms its worker", emits=("keeper_lost",))
async def test_a_keeper_that_was_killed_is_told_of_by_the_next_message_to_it() -> None:
    journal = Journal(Head(worker="w", pool="p", handlers=[], queues=[], topic="t", partitions=1, kafka={}), 1)
    keeper = Keeper(journal)
    await keeper.start()
    os.kill(keeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, keeper.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - at once
    with capture_logs() as lines:
        keeper.began(1)
        await keeper.stop()
    journal.close()
    assert _events(lines) == ["keeper_lost"]


class Stuck(subprocess.Popen[bytes]):
    """Its end does not come: it hangs in the kernel."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            raise subprocess.TimeoutExpired("sleep", timeout)
        return super().wait()


@pytest.mark.scenario("a handler takes too long", emits=("pool_process_stuck",))
async def test_a_process_that_does_not_end_when_killed_is_told_and_left() -> None:
    process = Stuck(["sleep", "60"], start_new_session=True)
    one = PoolProcess(process)
    with capture_logs() as lines:
        await one.close()
    assert _events(lines) == ["pool_process_stuck"] and lines[0]["pid"] == process.pid
    assert not one.usable
    process.wait()


class Refusing:
    """A producer whose queue is full for the first commands."""

    def __init__(self, refusals: int) -> None:
        self.left = refusals
        self.sent: list[Command] = []

    def post(self, command: Command) -> None:
        if self.left:
            self.left -= 1
            raise BackpressureError("full")
        self.sent.append(command)

    def send(self, command: Command) -> asyncio.Future[int]:
        self.post(command)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if len(self.sent) == 1:
            done.set_exception(KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT)))
        else:
            done.set_result(1)
        return done


@pytest.mark.scenario("a report is not taken")
async def test_a_report_that_is_not_taken_is_sent_again_or_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again where the loop turns, after a full queue as after a lost delivery; else whoever sends it hears of it."""
    monkeypatch.setattr(reports, "RETRY_SECONDS", 0.01)
    sender = Refusing(2)
    sending = Reports(cast("Any", sender), "w", lambda: "id", lambda error: None)
    with capture_logs() as lines:
        assert not sending.post("job:t:j", STARTED)
        sending.send("job:t:j", STARTED)
        assert await sending.drained(5)
    assert _events(lines) == ["report_failed", "report_resent", "report_resent"]
    assert len(sender.sent) == 2
