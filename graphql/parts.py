"""The parts of an api process, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jobledger.eventlog.clients import KafkaConnection, consumer_config, producer_config
from jobledger.eventlog.producer import CommandProducer, RecordProducer
from jobledger.eventlog.quarantine import QuarantineBook
from jobledger.graphql.catch_up import CatchUp
from jobledger.graphql.changing import Changing
from jobledger.graphql.directory import QueueDirectory
from jobledger.graphql.event_stream import EventStreams
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.graphql.quarantine import Quarantine
from jobledger.graphql.submitting import Submitting
from jobledger.graphql.topic_gate import TopicGate
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.topics import Topic, topic_name
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.traces import Tracing


class Secret(Protocol):
    """A value that does not show itself."""

    def get_secret_value(self) -> str:
        """The value."""
        ...


class ApiSettings(Protocol):
    """What the api needs to know of the settings."""

    @property
    def cell(self) -> str: ...  # noqa: D102
    @property
    def partitions(self) -> int: ...  # noqa: D102
    @property
    def tenant(self) -> str: ...  # noqa: D102
    @property
    def kafka(self) -> KafkaConnection: ...  # noqa: D102
    @property
    def postgres_dsn(self) -> Secret: ...  # noqa: D102
    @property
    def postgres_schema(self) -> str: ...  # noqa: D102
    @property
    def mutation_timeout_seconds(self) -> float: ...  # noqa: D102


@dataclass(slots=True)
class Parts:
    """Everything that requests need. `services` are in the order of their start."""

    settings: ApiSettings
    metrics: Metrics
    tracing: Tracing
    clock_ms: Callable[[], int]
    new_id: Callable[[], str]
    model: ReadModel
    outcomes: OutcomeTail
    tail: EventTail
    gateway: Gateway
    submitting: Submitting
    changing: Changing
    events: EventStreams
    quarantine: Quarantine
    services: list[Service]


def build_parts(
    settings: ApiSettings,
    metrics: Metrics,
    tracing: Tracing,
    *,
    clock_ms: Callable[[], int],
    monotonic: Callable[[], float],
    new_id: Callable[[], str],
    client_id: str = "api",
) -> Parts:
    """Make the parts; nothing is started."""
    cell, partitions = settings.cell, settings.partitions
    model = ReadModel(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    reading = consumer_config(settings.kafka, client_id, f"{cell}.{client_id}")
    events_topic = topic_name(cell, Topic.EVENTS)
    outcomes = OutcomeTail(reading, topic_name(cell, Topic.OUTCOMES), partitions, clock_ms)
    producer = RecordProducer(producer_config(settings.kafka, client_id))
    commands = CommandProducer(producer, topic_name(cell, Topic.COMMANDS), partitions)
    topics = [topic_name(cell, topic) for topic in (Topic.COMMANDS, Topic.EVENTS, Topic.OUTCOMES)]
    gate = TopicGate(reading, topics, partitions)
    gateway = Gateway(commands, outcomes, settings.mutation_timeout_seconds, gate.opened)
    directory = QueueDirectory(model.queue, gateway.ask, new_id, monotonic)
    tail = EventTail(reading, events_topic, partitions, directory.saw)
    return Parts(
        settings=settings,
        metrics=metrics,
        tracing=tracing,
        clock_ms=clock_ms,
        new_id=new_id,
        model=model,
        outcomes=outcomes,
        tail=tail,
        gateway=gateway,
        submitting=Submitting(gateway, directory, cell, partitions, clock_ms, new_id),
        changing=Changing(gateway, directory, cell, new_id),
        quarantine=Quarantine(
            QuarantineBook(reading, topic_name(cell, Topic.QUARANTINE)),
            producer,
            (topic_name(cell, Topic.COMMANDS), topic_name(cell, Topic.QUARANTINE)),
            partitions,
            clock_ms,
        ),
        events=EventStreams(tail, CatchUp(reading, events_topic), model, cell, metrics),
        services=[gate, model, producer, outcomes, tail, directory],
    )
