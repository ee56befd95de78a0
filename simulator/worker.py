"""A worker in the simulated world. It keeps to the worker protocol unless it is told to stall or to lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import partition_of, queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import Opaque
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.schemas.topics import TASK_PARTITIONS
from jobledger.schemas.worker import decode_tasks
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.clock import HeartbeatTable, VirtualClock

Send = Callable[[str, AnyCommand, bool], None]
Journal = Callable[["SimWorker", RunTask], None]
TaskKey = tuple[str, str, int]
#: Reports that a liar can repeat.
MAX_REMEMBERED_REPORTS = 32


class _Of(TypedDict):
    task: str
    assignment: int
    worker: str
    incarnation: str


class _Times(TypedDict):
    assigned_at_ms: int
    started_at_ms: int


@dataclass
class HeldTask:
    """A task that the worker has in hand; `started_at_ms` None: its handler has not been started."""

    run: RunTask
    started_at_ms: int | None = None
    cancelled: bool = False


class SimWorker:
    """One incarnation of a worker. `send(stream, command, hold)` is its producer, `journal` hears of each start."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        log: MemoryBroker,
        clock: VirtualClock,
        heartbeats: HeartbeatTable,
        lease_seconds: float,
        send: Send,
        journal: Journal,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.alive = True
        self.paused = False
        self.stalled = False
        self.honest = True
        self.held: dict[TaskKey, HeldTask] = {}
        self.queues: list[str] = []
        self.forged: set[str] = set()
        self.told_to_stop: set[TaskKey] = set()
        self._log = log
        self._clock = clock
        self._heartbeats = heartbeats
        self._lease_seconds = lease_seconds
        self._send = send
        self._journal = journal
        self._inbox = log.tasks[partition_of(name, TASK_PARTITIONS)]
        self._position = len(self._inbox)
        self._seen: set[TaskKey] = set()
        self._reports: list[tuple[str, AnyCommand]] = []
        self._last_beat = clock.monotonic()

    @property
    def running(self) -> bool:
        """Alive, and not stopped by a signal."""
        return self.alive and not self.paused

    # -- liveness ------------------------------------------------------------------------------------------------

    def register(self, tenant: str, queue: str, credits: int, handlers: list[str], *, hold: bool = False) -> None:
        """Tell a queue how many of its tasks this worker takes; 0: it is stopping."""
        if queue not in self.queues:
            self.queues.append(queue)
        body = qc.SetCredits(
            worker=self.name, incarnation=self.incarnation, pool="default", credits=credits, handlers=handlers
        )
        self._send(queue_stream(tenant, queue), body, hold)

    def leave(self, tenant: str) -> None:
        """Leave the queues: held tasks that have not started go back, then the worker is taken off the list."""
        for key in [key for key, task in self.held.items() if task.started_at_ms is None]:
            self.give_back(key)
        for queue in self.queues:
            body = qc.RemoveWorker(worker=self.name, incarnation=self.incarnation)
            self._send(queue_stream(tenant, queue), body, False)

    def beat(self) -> None:
        """Send a heartbeat, unless its own lease is over: then the worker ends itself, for it counts as lost."""
        if not self.running:
            return
        if self._expired():
            self.die()
            return
        self._last_beat = self._clock.monotonic()
        self._heartbeats.beat(self.incarnation)

    def _expired(self) -> bool:
        return self._clock.monotonic() - self._last_beat >= self._lease_seconds

    def die(self) -> None:
        """kill -9, or the end that a worker makes of itself when it may count as lost."""
        self.alive = False
        self.held.clear()

    # -- tasks ---------------------------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Read the inbox; whether there was anything for this worker."""
        found = False
        while self.running and self._position < len(self._inbox):
            record = decode_tasks(self._inbox[self._position])
            self._position += 1
            for message in record.messages:
                if message.incarnation == self.incarnation:
                    found = True
                    self._take(message)
        return found

    def _take(self, message: RunTask | CancelTask) -> None:
        key = (message.job, message.task, message.assignment)
        if isinstance(message, RunTask):
            if key not in self._seen:
                self._seen.add(key)
                self.held[key] = HeldTask(message)
            return
        self.told_to_stop.add(key)
        if key in self.held and not self.stalled:
            if self.honest:
                self._report_cancelled(key)
            else:
                self.held[key].cancelled = True  # a liar goes on, and may report a success

    def start(self, key: TaskKey, *, quiet: bool = False, hold: bool = False) -> None:
        """Start the handler. `quiet`: as for a short task, whose start is told with its end."""
        task = self.held[key]
        if not self.running or task.started_at_ms is not None:
            return
        if self._expired():
            self.die()
            return
        task.started_at_ms = self._clock.now_ms()
        self._journal(self, task.run)
        if not quiet:
            body = jc.ReportStarted(**self._of(task), **self._times(task))
            self._report(task.run.job, body, hold)

    def succeed(self, key: TaskKey, *, hold: bool = False) -> None:
        """The handler returns."""
        task = self._end(key)
        if task is not None:
            body = jc.ReportSucceeded(
                **self._of(task),
                **self._times(task),
                ended_at_ms=self._clock.now_ms(),
                result=Opaque(f'"{task.run.job[-6:]}"'),
            )
            self._report(task.run.job, body, hold)

    def fail(self, key: TaskKey, *, retryable: bool = True, timeout: bool = False, hold: bool = False) -> None:
        """The handler raises, or runs out of time."""
        task = self._end(key)
        if task is not None:
            body = jc.ReportFailed(
                **self._of(task),
                **self._times(task),
                ended_at_ms=self._clock.now_ms(),
                kind=jc.FailureKind.TIMEOUT if timeout else jc.FailureKind.FAILED,
                error_type="ValueError",
                error=Opaque('"no"'),
                retryable=retryable,
            )
            self._report(task.run.job, body, hold)

    def save(self, key: TaskKey) -> None:
        """The handler saves a checkpoint."""
        task = self.held[key]
        if self.running and not self.stalled and task.started_at_ms is not None:
            now = self._clock.now_ms()
            body = jc.ReportCheckpoint(
                **self._of(task), **self._times(task), saved_at_ms=now, checkpoint=Opaque(f'{{"at": {now}}}')
            )
            self._report(task.run.job, body, False)

    def give_back(self, key: TaskKey) -> None:
        """Return a task that has not been started."""
        task = self.held[key]
        if self.running and not self.stalled and task.started_at_ms is None:
            del self.held[key]
            self._report(task.run.job, jc.ReportReturned(**self._of(task), reason="stopping"), False)

    def lie(self, choice: int) -> None:
        """Say again what was said before, or speak of an assignment that it never had."""
        if not self._reports or not self.running:
            return
        self.honest = False
        stream, body = self._reports[choice % len(self._reports)]
        if choice % 3 and isinstance(body, jc.TaskReport):
            claimed = max(0, body.assignment + (1, -1)[choice % 2])
            now = self._clock.now_ms()
            if (stream, body.task, claimed) not in self._seen:
                self.forged.add(stream)
            body = jc.ReportSucceeded(
                task=body.task,
                assignment=claimed,
                worker=self.name,
                incarnation=self.incarnation,
                assigned_at_ms=now,
                started_at_ms=now,
                ended_at_ms=now,
            )
        self._send(stream, body, False)

    def tell_of_crash(self, dead: SimWorker, task: HeldTask) -> None:
        """An earlier incarnation died of a handler: its successor knows by the journal, and says so."""
        self._report(task.run.job, jc.ReportCrashed(**dead._of(task), **self._times(task)), False)

    # -- reports -------------------------------------------------------------------------------------------------

    def _end(self, key: TaskKey) -> HeldTask | None:
        if not self.running or self.stalled:
            return None
        if self.held[key].started_at_ms is None:
            self.start(key, quiet=True)
        return self.held.pop(key, None)

    def _report_cancelled(self, key: TaskKey) -> None:
        task = self.held.pop(key)
        body = jc.ReportCancelled(**self._of(task), ended_at_ms=self._clock.now_ms())
        self._report(task.run.job, body, False)

    def _report(self, stream: str, body: AnyCommand, hold: bool) -> None:
        if len(self._reports) < MAX_REMEMBERED_REPORTS:
            self._reports.append((stream, body))
        self._send(stream, body, hold)

    def _of(self, task: HeldTask) -> _Of:
        return {
            "task": task.run.task,
            "assignment": task.run.assignment,
            "worker": self.name,
            "incarnation": self.incarnation,
        }

    def _times(self, task: HeldTask) -> _Times:
        return {
            "assigned_at_ms": task.run.assigned_at_ms,
            "started_at_ms": task.started_at_ms or self._clock.now_ms(),
        }
