"""The scheduler process: puts its parts together and runs them until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from uuid_utils.compat import uuid7

from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.clock import SystemClock, make_clock
from jobledger.processors.clock_gate import ClockGate
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.processors.coverage import Coverage
from jobledger.processors.feed import CommandFeed, FeedConfig
from jobledger.processors.gauges import Gauges
from jobledger.processors.heartbeats import HeartbeatBook
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.processors.observer import TelemetryObserver
from jobledger.processors.relay import KafkaRelay
from jobledger.processors.scheduler import OwnerSet
from jobledger.processors.turns import TurnWatch
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.logs import configure_logging, get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service, StandingService
from jobledger.telemetry.supervision import run_until_signalled

MAX_COMMITS_IN_FLIGHT = 8
THREADS = 64
#: From the signal to the end of the process: nothing is lost when it is cut short, and others wait for its partitions.
GRACE_SECONDS = 10.0
STOP_SECONDS = 7.0
#: A batch makes thousands of short-lived objects and no cycles; waiting jobs are bytes, which are not tracked.
GC_THRESHOLDS = (50_000, 20, 50)

log = get_logger()


class FirstTurn(StandingService):
    """Last part to start: the process is ready when the group has settled and its partitions are served."""

    def __init__(self, owners: OwnerSet) -> None:
        self._owners = owners

    async def start(self) -> None:
        """Wait for the first assignment and its recoveries."""
        self._stand()
        await self._owners.settle()


class Scheduler:
    """The parts of a scheduler process, in the order in which they start."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: SystemClock) -> None:
        self._settings = settings
        max_skew_ms = round(settings.max_clock_skew_seconds * 1000)
        watched = WatchedClock(clock, max_skew_ms)
        instance = instance_name("scheduler", settings.instance_id)
        cell, kafka, own_id = settings.cell, settings.kafka, str(uuid7())
        self.producer = RecordProducer(producer_config(kafka, f"{instance}-heartbeats"))
        self.coverage = Coverage(
            own_id,
            settings.partitions,
            lambda: self.heartbeats.seen_until,
            metrics,
            watched,
            settings.session_timeout_seconds,
        )
        self.heartbeats = HeartbeatBook(
            self.producer,
            topic_name(cell, Topic.HEARTBEATS),
            consumer_config(kafka, f"{instance}-heartbeats", f"{cell}-heartbeats"),
            own_id,
            watched,
            watched.measured,
            self.announcement,
            self.coverage.heard,
        )
        self.topics = TopicWatch(kafka.client_config(), cell, self.decided_ends)
        self.relay = KafkaRelay(producer_config(kafka, f"{instance}-relay"), cell)
        observer = TelemetryObserver(metrics, clock, instance)
        slots = asyncio.Semaphore(MAX_COMMITS_IN_FLIGHT)
        config = OwnerConfig(
            cell=cell,
            partitions=settings.partitions,
            limits=Limits(
                dedup_window_ms=round(settings.dedup_window_seconds * 1000),
                # The former owner's clock may have been as far ahead as ours is behind.
                ahead_ms=2 * max_skew_ms + 1_000,
            ),
            lease_seconds=settings.lease_seconds,
            confirm_seconds=settings.session_timeout_seconds,
            topic_ids=lambda: self.topics.ids,
            accept_new_topics=settings.accept_new_topics,
        )

        def make_owner(partition: int) -> Owner:
            log = KafkaPartitionLog(kafka, cell, partition, instance)
            return Owner(partition, config, log, self.relay, self.heartbeats, watched, observer, slots)

        self.owners = OwnerSet(make_owner)
        self.clock_gate = ClockGate(watched, self.owners.machines, metrics)
        self.gauges = Gauges(self.owners.machines, metrics, clock)
        self.feed = CommandFeed(
            FeedConfig(
                cell=cell,
                partitions=settings.partitions,
                client_id=instance,
                instance_id=settings.instance_id,
                session_timeout_seconds=settings.session_timeout_seconds,
                kafka=kafka,
                offer=self.owners.offer,
                assigned=self.owners.assigned,
                next_offset=self.owners.next_offset,
            )
        )

    @property
    def parts(self) -> list[Service]:
        """What starts, in order; it stops in the reverse order: the group is left before owners close."""
        return [
            self.topics,
            self.producer,
            self.heartbeats,
            self.clock_gate,
            self.relay,
            self.owners,
            self.feed,
            self.gauges,
            self.coverage,
            FirstTurn(self.owners),
        ]

    def announcement(self) -> tuple[list[int], list[int]]:
        """The partitions that are served here, and those that the group has given to this process."""
        owners = self.owners.owners
        return sorted(p for p, owner in owners.items() if owner.serving), sorted(owners)

    def decided_ends(self) -> dict[int, int]:
        """By partition the offset up to which commands are decided: the log cannot end before it."""
        return {p: machine.checkpoint.offset for p, machine in self.owners.machines().items()}

    async def queue_check(self) -> Checked:
        """Whether heartbeats, our own probes among them, come back from the broker."""
        age = boot_seconds() - self.heartbeats.seen_until
        details: dict[str, object] = {"last_probe_seconds": round(age, 1)}
        if age >= 5:
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": "our own heartbeats do not come back"})
        if self.relay.renewing:
            return Checked(HealthStatus.DEGRADED, {**details, "relay": "a delivery failed; everything is sent again"})
        return Checked(details=details)

    async def coordination_check(self) -> Checked:
        """A spare that owns nothing is well while each partition of the cell is served by somebody.

        UNHEALTHY, in every scheduler: a partition that was refused, or that nobody has served for longer than a
        takeover lasts. DEGRADED: one that changes its owner.
        """
        owners = self.owners.owners
        refused = {str(p): owner.refusal for p, owner in owners.items() if owner.refusal}
        served = sorted(p for p, owner in owners.items() if owner.serving)
        unserved, overdue = sorted(self.coverage.unserved), self.coverage.overdue
        troubles = {str(p): owner.trouble for p, owner in owners.items() if owner.trouble}
        details: dict[str, object] = {
            "is_leader": bool(served),
            "partitions": served,
            "refused": refused,
            "troubles": troubles,
        }
        if unserved:
            details["unserved"] = unserved
        if refused:
            details["error"] = next(iter(refused.values()))
        elif overdue:
            details["error"] = f"partition(s) {', '.join(map(str, overdue))} are served by no scheduler of the cell"
        if refused or overdue:
            return Checked(HealthStatus.UNHEALTHY, details)
        return Checked(HealthStatus.DEGRADED if unserved or troubles else HealthStatus.HEALTHY, details)


async def run(settings: Settings) -> int:
    """Run a scheduler until SIGTERM; returns the exit status."""
    instance = instance_name("scheduler", settings.instance_id)
    configure_logging("scheduler", instance, level=settings.log_level)
    log.info("process_started")
    for library in ("faust", "mode", "aiokafka", "abc"):
        logging.getLogger(library).setLevel(logging.WARNING)
    gc.set_threshold(*GC_THRESHOLDS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "scheduler"))
    durability = Durability(
        replication_factor=settings.kafka.replication_factor,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        dev=settings.dev,
    )
    await asyncio.to_thread(
        ensure_topics, settings.kafka.client_config(), settings.cell, settings.partitions, durability
    )
    metrics = Metrics("scheduler", instance_id=instance, version=version("jobledger"))
    clock = make_clock(settings)
    scheduler = Scheduler(settings, metrics, clock)
    health = Health(version("jobledger"))
    health.add("queue", scheduler.queue_check)
    health.add("coordination", scheduler.coordination_check)
    health.add("clock", scheduler.clock_gate.check)
    server = HealthServer(health, metrics, host=settings.host, port=settings.health_port)
    return await run_until_signalled(
        [*([TurnWatch.logging()] if settings.dev else []), server, *scheduler.parts],
        stop_timeout=STOP_SECONDS,
        on_ready=lambda: health.set_ready(True),
        on_stopping=lambda: health.set_ready(False),
    )


def main(settings: Settings) -> int:
    """`run` to the end of the process, on the loop that Faust is made for."""
    return run_role(lambda: run(settings), grace_seconds=GRACE_SECONDS)
