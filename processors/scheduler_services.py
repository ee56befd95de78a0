"""The parts of a scheduler beside Faust: owners and what they need, made from the settings."""

from __future__ import annotations

import asyncio

from uuid_utils.compat import uuid7

from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.processors.clock import SystemClock
from jobledger.processors.clock_gate import ClockGate
from jobledger.processors.cluster_view import ClusterView
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.processors.coverage import Coverage
from jobledger.processors.gauges import Gauges
from jobledger.processors.heartbeats import Announcement, HeartbeatBook
from jobledger.processors.kafka_log import KafkaPartitionLog, scheduler_group
from jobledger.processors.log_gauges import LogGauges
from jobledger.processors.observer import TelemetryObserver
from jobledger.processors.owners import OwnerSet
from jobledger.processors.relay import KafkaRelay
from jobledger.processors.services import AppService, PartService
from jobledger.processors.spans import SchedulerSpans
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import Settings
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.tracestate import scheduler_member

MAX_COMMITS_IN_FLIGHT = 8


class SchedulerServices:
    """What a scheduler is made of, not started yet."""

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: SystemClock, tracing: Tracing | None = None
    ) -> None:
        max_skew_ms = round(settings.max_clock_skew_seconds * 1000)
        watched = WatchedClock(clock, max_skew_ms)
        self.instance = instance = instance_name("scheduler", settings.instance_id)
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
        self.relay = KafkaRelay(producer_config(kafka, f"{instance}-relay"), cell, scheduler_member(instance))
        spans = SchedulerSpans(tracing or Tracing(), instance, settings.partitions)
        observer = TelemetryObserver(metrics, clock, instance, spans)
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
        cluster = ClusterView(kafka, cell, f"{instance}-cluster-view")
        self.log_gauges = LogGauges(cluster, scheduler_group(cell), self.owners.machines, metrics)

    def before_group(self) -> list[AppService]:
        """What stands before partitions can be owned, in the order of its start; the owners last."""
        needed: list[Service] = [self.topics, self.producer, self.heartbeats, self.clock_gate, self.relay]
        return [*map(PartService, needed), self.owners]

    def in_group(self) -> list[AppService]:
        """What goes along once partitions can be owned."""
        return [PartService(self.gauges), PartService(self.log_gauges), PartService(self.coverage)]

    def announcement(self) -> Announcement:
        """The partitions that are served here, and those that the group has given to this process."""
        owners = self.owners.owners
        return Announcement(self.instance, sorted(p for p, owner in owners.items() if owner.serving), sorted(owners))

    def decided_ends(self) -> dict[int, int]:
        """By partition the offset up to which commands are decided: the log cannot end before it."""
        return {p: machine.checkpoint.offset for p, machine in self.owners.machines().items()}
