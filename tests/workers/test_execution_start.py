"""The start that a handler waits for, and somebody else who reports it meanwhile."""

from __future__ import annotations

import asyncio

from jobledger.domain.values import Opaque
from jobledger.domain.worker_messages import RunTask
from jobledger.schemas.commands import Command
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing
from jobledger.workers.execution import Execution, Surroundings
from jobledger.workers.handler import Handler, handler
from jobledger.workers.journal import Head, Journal, Running
from jobledger.workers.lease import Lease
from jobledger.workers.measures import Measures
from jobledger.workers.reports import Reports
from jobledger.workers.spans import WorkerTracing


@handler("noted")
async def noted() -> str:
    return "ran"


class Sender:
    """Takes commands as the producer does, and delivers them at the next turn."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def send(self, command: Command) -> asyncio.Future[None]:
        self.post(command)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        return done

    def post(self, command: Command) -> None:
        self.said.append(type(command.body).__name__)


class SlowJournal(Journal):
    """The loop has stood still for long when it gets here: the watchdog reports the start of all that have begun."""

    execution: Execution

    def begin(self, running: Running) -> int | None:
        self.execution.post_start()
        return super().begin(running)


async def test_a_start_that_the_watchdog_has_reported_is_waited_for_all_the_same() -> None:
    """Nobody hears of that report's arrival: without another one the handler would never begin."""
    sender, ended = Sender(), asyncio.Event()
    lease = Lease(60.0)
    lease.confirm(lease._monotonic())
    head = Head(worker="w", pool="p", handlers=[], queues=[], topic="t", partitions=1, kafka={})
    journal = SlowJournal(head, 1)
    around = Surroundings(
        worker="w",
        reports=Reports(sender, "w", lambda: "id", lambda error: None),
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
        handler="noted",
        queue="default",
        payload=Opaque("null"),
        due_at_ms=0,
        assigned_at_ms=0,
        start_first=True,
    )
    assert isinstance(noted, Handler)
    journal.execution = Execution(run, noted, around, lambda _: ended.set())
    journal.execution.start()
    await asyncio.wait_for(ended.wait(), 10)
    assert sender.said == ["ReportStarted", "ReportStarted", "ReportSucceeded"]
    journal.close()
