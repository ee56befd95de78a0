"""The worker: takes tasks from its inbox, runs their handlers, and reports to the jobs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import msgspec
from confluent_kafka import OFFSET_END, KafkaException, Message

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import partition_of, queue_stream, split_stream
from jobledger.domain.job.commands import ReportReturned
from jobledger.domain.queue import commands as qc
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import CommandProducer, RecordProducer
from jobledger.eventlog.reader import LogReader
from jobledger.schemas.topics import TASK_PARTITIONS, Topic, topic_name
from jobledger.schemas.trace_headers import tracestate_of
from jobledger.schemas.worker import read_tasks
from jobledger.settings import Settings
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import CompoundService
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.waiting import told_once, tries_every
from jobledger.workers.attempt import StopReason
from jobledger.workers.execution import Execution, Surroundings
from jobledger.workers.journal import Head, Journal
from jobledger.workers.keeper import Keeper
from jobledger.workers.lease import Lease, SharedDeadline
from jobledger.workers.liveness import Liveness
from jobledger.workers.measures import Measures
from jobledger.workers.memory import RecentKeys
from jobledger.workers.pool import ProcessPool
from jobledger.workers.pool_protocol import Setup
from jobledger.workers.registry import Registry
from jobledger.workers.reports import Reports
from jobledger.workers.spans import WorkerTracing
from jobledger.workers.usage import ResourceUsage
from jobledger.workers.watchdog import Watchdog, Watched

DRAIN_SECONDS = 30.0
FLUSH_SECONDS = 5.0
#: How long a handler may take to end after it was stopped: for a drain that is over, and for a lease that is lost.
STOP_SECONDS = 10.0
CONNECT_RETRY_SECONDS = 1.0
#: While handlers are waited for, they are named this often, and at most so many at a time.
DRAIN_TOLD_SECONDS = 5.0
MAX_TOLD = 100
#: How long a handler may block the event loop before the worker ends itself.
BLOCKED_LIMIT_SECONDS = 300.0
#: RemoveWorker is refused while the queue still counts a task as held, so it is sent again this much later.
LEAVE_PAUSES = (0.0, 0.3, 0.7)

log = get_logger()


class WorkerConfigError(ValueError):
    """The worker's settings can't work; the message says which and what to do."""


def worker_id(settings: Settings) -> str:
    """The stable name of this worker: its slot name, else one made from the host's name."""
    return settings.instance_id or f"worker-{socket.gethostname().partition('.')[0][:60]}"


def credits_of(settings: Settings) -> dict[str, int]:
    """Slots divided over the queues: the sum is all slots, each has at least one. Raises WorkerConfigError."""
    names, slots = list(dict.fromkeys(settings.worker_queues)), settings.worker_slots
    if not names:
        raise WorkerConfigError("The worker has no queues; name at least one in JOBLEDGER_WORKER_QUEUES.")
    if len(names) > slots:
        raise WorkerConfigError(
            f"The worker has {slots} slot(s) for {len(names)} queues, but each queue needs one: "
            f"raise JOBLEDGER_WORKER_SLOTS to {len(names)} or name fewer queues in JOBLEDGER_WORKER_QUEUES."
        )
    share, rest = divmod(slots, len(names))
    return {name: share + (1 if index < rest else 0) for index, name in enumerate(names)}


class Worker(CompoundService):
    """The service that runs handlers. What ends its producer, inbox, heartbeats or watchdog ends the worker."""

    name = "worker"

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        metrics: Metrics,
        tracing: Tracing,
        *,
        new_id: Callable[[], str],
        clock: Callable[[], float] = time.time,
        drain_seconds: float = DRAIN_SECONDS,
        blocked_limit_seconds: float = BLOCKED_LIMIT_SECONDS,
    ) -> None:
        super().__init__()
        if settings.heartbeat_interval_seconds * 2 > settings.lease_seconds:
            raise WorkerConfigError(
                f"JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS is {settings.heartbeat_interval_seconds:g}, but must be at most "
                f"half of JOBLEDGER_LEASE_SECONDS ({settings.lease_seconds:g})."
            )
        self._settings = settings
        self._id = worker_id(settings)
        self._credits = credits_of(settings)
        self._drain_seconds = drain_seconds
        self._blocked_limit_seconds = blocked_limit_seconds
        self._registry = registry
        self._tracing = tracing
        self._new_id = new_id
        self._clock = clock
        self._metrics = metrics
        self._measures = Measures(metrics, settings.worker_slots, clock)
        self._shared: SharedDeadline | None = None
        self._executions: dict[tuple[str, str, int], Execution] = {}
        self._seen = RecentKeys()
        self._draining = False
        self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.incarnation = ""

    @property
    def running(self) -> int:
        """Tasks that are here and have not ended."""
        return len(self._executions)

    @property
    def lease_valid(self) -> bool:
        """Whether handlers may run now."""
        return hasattr(self, "_lease") and self._lease.valid

    @property
    def heartbeat_age(self) -> float:
        """Seconds since Kafka acknowledged a heartbeat."""
        return boot_seconds() - self._liveness.acknowledged_at if hasattr(self, "_liveness") else float("inf")

    # -- start --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, register, and take tasks; waits for Kafka as long as it takes."""
        self._stand()
        settings = self._settings
        self._shared = SharedDeadline()
        self._lease = Lease(settings.lease_seconds, self._shared)
        self._journal = self._make_journal()
        keeper = Keeper(self._journal)
        await self._begin_member(keeper)
        self._producer = RecordProducer(producer_config(self._settings.kafka, f"{self._id}-reports"))
        await self._begin_member(self._producer)
        commands = CommandProducer(self._producer, topic_name(settings.cell, Topic.COMMANDS), settings.partitions)
        self._reports = Reports(commands, self._id, self._new_id, self._end)
        pool = self._make_pool(self._shared, keeper)
        if pool is not None:
            await self._begin_member(pool)
        self._around = Surroundings(
            worker=self._id,
            reports=self._reports,
            pool=pool,
            lease=self._lease,
            measures=self._measures,
            tracing=WorkerTracing(self._tracing, self._id),
            journal=self._journal,
            clock=self._clock,
        )
        await self._open_inbox()
        self._liveness = Liveness(
            self._producer,
            topic_name(settings.cell, Topic.HEARTBEATS),
            self._id,
            self._lease,
            self._measures,
            settings.heartbeat_interval_seconds,
            self._clock,
        )
        await self._register()
        await self._begin_member(self._liveness)
        await self._begin_member(self._make_watchdog())
        await self._begin_member(ResourceUsage(self._metrics, lambda: pool.pids if pool is not None else ()))
        self._follow(self._liveness.watch(self._lease_lost), "lease-watch")

    def _make_pool(self, shared: SharedDeadline, keeper: Keeper) -> ProcessPool | None:
        if not self._registry.any_in("process"):
            return None
        import sys  # noqa: PLC0415 - what handlers' modules were found with, at this moment

        setup = Setup(
            path=list(sys.path),
            modules=self._registry.modules,
            instance_id=self._id,
            log_level=self._settings.log_level,
        )
        return ProcessPool(setup, shared.descriptor, self._settings.worker_slots, keeper)

    def _make_journal(self) -> Journal:
        settings = self._settings
        head = Head(
            worker=self._id,
            pool=settings.worker_pool,
            handlers=self._registry.names,
            queues=[queue_stream(settings.tenant, queue) for queue in self._credits],
            topic=topic_name(settings.cell, Topic.COMMANDS),
            partitions=settings.partitions,
            kafka=settings.kafka.client_config(),
        )
        return Journal(head, settings.worker_slots)

    def _make_watchdog(self) -> Watchdog:
        watched = Watched(
            executions=self._executions.values,
            lease_valid=lambda: self._lease.valid,
            flush=self._producer.flush,
        )
        return Watchdog(watched, self._blocked_limit_seconds)

    async def _open_inbox(self) -> None:
        """Read the inbox from its end, fixed before anybody hears of this incarnation."""
        settings = self._settings
        inbox = partition_of(self._id, TASK_PARTITIONS)
        client = consumer_config(self._settings.kafka, f"{self._id}-inbox", f"{settings.cell}-worker-{self._id}")
        lost = told_once("queue_connection_lost", KafkaException)
        async for attempt in tries_every(CONNECT_RETRY_SECONDS, lost):
            reader = LogReader(client, topic_name(settings.cell, Topic.TASKS), {inbox: OFFSET_END}, self._deliver)
            with attempt:
                await reader.start()
                self._add_member(reader)

    async def _register(self) -> None:
        """Become a new incarnation: a heartbeat first, so that the lease is valid when the first task comes."""
        self.incarnation = ""
        incarnation = self._new_id()
        self._seen.clear()
        await self._liveness.first(incarnation)
        self.incarnation = incarnation
        for queue, credits in self._credits.items():
            self._send_credits(queue, credits)
        log.info("worker_registered", worker_id=self._id, incarnation=incarnation)

    def _send_credits(self, queue: str, credits: int) -> None:
        body = qc.SetCredits(
            worker=self._id,
            incarnation=self.incarnation,
            pool=self._settings.worker_pool,
            credits=credits,
            handlers=self._registry.names,
        )
        self._to_queue(queue, body)

    def _to_queue(self, queue: str, body: AnyCommand) -> None:
        self._reports.send(queue_stream(self._settings.tenant, queue), body)

    # -- inbox --------------------------------------------------------------------------------------------------------

    async def _deliver(self, batch: list[Message]) -> None:
        """Take what is for this incarnation; others share the partition of the inbox."""
        wanted = self.incarnation.encode()
        if not wanted:
            return
        for message in batch:
            value = message.value()
            if not isinstance(value, bytes) or wanted not in value:
                continue
            try:
                messages, faults = read_tasks(value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                messages, faults = [], [str(error)]
            for fault in faults:
                reason = f"Record {message.partition()}/{message.offset()} of the inbox can't be read: {fault}"
                log.warning("inbox_record_unreadable", reason=reason)
            tracestate = tracestate_of(message.headers())
            for one in messages:
                if one.incarnation != self.incarnation:
                    continue
                if isinstance(one, RunTask):
                    self._run(one, tracestate)
                else:
                    self._cancel(one)

    def _run(self, run: RunTask, tracestate: str) -> None:
        if not self._seen.add((run.job, run.task, run.assignment)):
            return
        self._measures.received()
        _, tenant, job_id = split_stream(run.job)
        ids = {"execution_id": run.execution_id, "job_id": job_id, "tenant_id": tenant, "traceparent": run.traceparent}
        log.info("task_received", **ids, worker_id=self._id)
        handler = self._registry.get(run.handler)
        refusal = self._refusal(run) if handler is not None else f"Handler '{run.handler}' is not in this worker."
        if refusal is not None or handler is None:
            log.warning("task_refused", **ids, reason=refusal)
            self._return(run, refusal or "")
            return
        if not self._lease.valid:
            log.warning("task_dropped", **ids, reason="The worker's lease is over.")
            return
        execution = Execution(run, handler, self._around, self._forget, tracestate)
        self._executions[execution.key] = execution
        self._idle.clear()
        execution.start()

    def _refusal(self, run: RunTask) -> str | None:
        if self._draining:
            return "The worker is stopping."
        if len(self._executions) >= self._settings.worker_slots:
            return f"All {self._settings.worker_slots} slots of the worker are taken."
        return None

    def _return(self, run: RunTask, reason: str) -> None:
        body = ReportReturned(
            task=run.task, assignment=run.assignment, worker=run.worker, incarnation=run.incarnation, reason=reason
        )
        self._reports.send(run.job, body, correlation_id=run.correlation_id, traceparent=run.traceparent)

    def _cancel(self, cancel: CancelTask) -> None:
        execution = self._executions.get((cancel.job, cancel.task, cancel.assignment))
        if execution is not None:
            execution.stop(StopReason.CANCEL)
        # One that is not here has ended: its report is on its way, and what came first counts.

    def _forget(self, execution: Execution) -> None:
        self._executions.pop(execution.key, None)
        if not self._executions:
            self._idle.set()

    # -- lease --------------------------------------------------------------------------------------------------------

    async def _lease_lost(self) -> None:
        """Stop everything without a report: the tasks are others' now. Then begin anew, once Kafka answers."""
        log.warning("lease_uncertain", worker_id=self._id, running=self.running)
        self._lease.revoke()
        before, self.incarnation = self.incarnation, ""
        await self._stop_executions(StopReason.LEASE)
        if self._draining:
            await asyncio.sleep(STOP_SECONDS)  # stop() ends this; nothing is to be begun anew
            return
        await self._register()
        for queue in self._credits:  # takes effect where the old incarnation held nothing; else its lease runs out
            self._to_queue(queue, qc.RemoveWorker(worker=self._id, incarnation=before))

    async def _stop_executions(self, reason: StopReason) -> None:
        for execution in list(self._executions.values()):
            execution.stop(reason)
        try:
            await asyncio.wait_for(self._idle.wait(), STOP_SECONDS)
        except TimeoutError:
            left = ", ".join(sorted({execution.run.handler for execution in self._executions.values()}))
            self._end(RuntimeError(f"Handlers don't end after they were stopped: {left}. The worker has to go."))

    # -- stop ---------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take nothing new, let what runs end within the drain time, report all, leave the queues; may be repeated."""
        if self._stopped:
            return
        self._stopped = self._draining = True
        if self.incarnation:
            await self._drain()
        await super().stop()  # the keeper last: it tells of the handlers whose end Kafka does not have by then
        if hasattr(self, "_journal"):
            self._journal.close()
        if self._shared is not None:
            self._shared.close()
        log.info("worker_drained", worker_id=self._id, incarnation=self.incarnation)

    async def _drain(self) -> None:
        for queue in self._credits:
            self._send_credits(queue, 0)
        for execution in list(self._executions.values()):
            execution.stop_if_waiting()
        await self._wait_for_handlers()
        if self._executions:
            await self._stop_executions(StopReason.DRAIN)
        if not await self._reports.drained(FLUSH_SECONDS):
            return  # Kafka is away: the lease's end tells the queues
        for pause in LEAVE_PAUSES:
            await asyncio.sleep(pause)  # the inbox is still read: what was on its way is handed back
            for queue in self._credits:
                self._to_queue(queue, qc.RemoveWorker(worker=self._id, incarnation=self.incarnation))
            await self._reports.drained(FLUSH_SECONDS)

    async def _wait_for_handlers(self) -> None:
        """Give them the drain time; a line says at once, and every few seconds, what is waited for."""
        left = self._drain_seconds
        while self._executions and left > 0:
            names = [f"{one.handler_name} of job {one.job_id}" for one in self._executions.values()]
            worker = self._id
            log.info("worker_draining", worker_id=worker, running=names[:MAX_TOLD], count=len(names), seconds=left)
            try:
                await asyncio.wait_for(self._idle.wait(), min(left, DRAIN_TOLD_SECONDS))
            except TimeoutError:
                left -= DRAIN_TOLD_SECONDS
