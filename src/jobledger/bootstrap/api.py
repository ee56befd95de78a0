"""The role `jobledger api`: GraphQL, on the log and the read models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import uuid_utils
import uvloop
from starlette.applications import Starlette

import jobledger
from jobledger.bootstrap.dependencies import KEEP_SECONDS, add_database, add_queue
from jobledger.bootstrap.process import Process
from jobledger.domain.levels import OLDEST
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import CommandProducer, RecordProducer
from jobledger.eventlog.quarantine import QuarantineBook
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.graphql.access import Access
from jobledger.graphql.app import build_app
from jobledger.graphql.catch_up import CatchUp
from jobledger.graphql.components import Components
from jobledger.graphql.directory import QueueDirectory
from jobledger.graphql.event_stream import EventStreams
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.job_commands import JobCommands
from jobledger.graphql.level_gate import LevelGate
from jobledger.graphql.open_subscriptions import OpenSubscriptions
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.graphql.pool_gauges import PoolGauges
from jobledger.graphql.quarantine import Quarantine
from jobledger.graphql.queue_commands import QueueCommands
from jobledger.graphql.request_counts import RequestCounts
from jobledger.graphql.request_spans import RequestSpans
from jobledger.graphql.server import graphql_server
from jobledger.graphql.service_levels import ServiceLevels
from jobledger.graphql.submissions import Submissions
from jobledger.graphql.topic_gate import TopicGate
from jobledger.graphql.trace_store import TraceStore
from jobledger.graphql.user_commands import UserCommands
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.traces import Tracing

DEFAULT_INSTANCE = "api-1"
#: Read models further behind the log than this are DEGRADED.
LATE_SECONDS = 30.0


@dataclass(slots=True)
class Api:
    """An api put together; start `services` in order, or serve `app` in a test."""

    components: Components
    app: Starlette
    health: Health
    metrics: Metrics

    @property
    def services(self) -> list[Service]:
        """Everything but the listeners."""
        return self.components.services


def new_id() -> str:
    """A UUIDv7."""
    return str(uuid_utils.uuid7())


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def build_api(
    settings: Settings,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
    health: Health | None = None,
    *,
    clock_ms: Callable[[], int] = now_ms,
    ids: Callable[[], str] = new_id,
    instance_id: str = DEFAULT_INSTANCE,
) -> Api:
    """Put an api together; nothing is started."""
    metrics = metrics or Metrics("api", instance_id=instance_id, version=jobledger.__version__)
    health = health or Health(jobledger.__version__)
    components = build_components(
        settings,
        metrics,
        tracing or Tracing(),
        clock_ms=clock_ms,
        monotonic=time.monotonic,
        new_id=ids,
        client_id=instance_id,
    )
    add_queue(health, settings, instance_id)
    # Mutations and subscriptions go on without it, and queries say so themselves.
    add_database(health, components.model.ping, critical=False)
    _add_checks(health, components)
    return Api(components, build_app(components, health), health, metrics)


def build_components(
    settings: Settings,
    metrics: Metrics,
    tracing: Tracing,
    *,
    clock_ms: Callable[[], int],
    monotonic: Callable[[], float],
    new_id: Callable[[], str],
    client_id: str,
) -> Components:
    """Make the components; nothing is started."""
    cell, partitions = settings.cell, settings.partitions
    model = ReadModel(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    reading = consumer_config(settings.kafka, client_id, f"{cell}.{client_id}")
    events_topic = topic_name(cell, Topic.EVENTS)
    outcomes = OutcomeTail(reading, topic_name(cell, Topic.OUTCOMES), partitions, clock_ms)
    producer = RecordProducer(producer_config(settings.kafka, client_id))
    commands = CommandProducer(producer, topic_name(cell, Topic.COMMANDS), partitions)
    gate = TopicGate(reading, cell, (Topic.COMMANDS, Topic.EVENTS, Topic.OUTCOMES), partitions)
    levels = LevelGate(lambda: lowest_level(settings), monotonic)
    gateway = Gateway(commands, outcomes, settings.mutation_timeout_seconds, gate.opened, levels.enabled, metrics)
    directory = QueueDirectory(model.queue, gateway.ask, new_id, monotonic)
    spans = RequestSpans(tracing, metrics, monotonic)
    tail = EventTail(reading, events_topic, partitions, directory.saw, spans.saw if tracing.recording else None)
    commands_of_users = UserCommands(gateway, new_id)
    subscriptions = OpenSubscriptions(metrics)
    request_counts = RequestCounts(model, metrics, clock_ms, f"{client_id}/{uuid_utils.uuid7()}")
    return Components(
        settings=settings,
        metrics=metrics,
        access=Access(settings, metrics),
        spans=spans,
        traces=TraceStore() if settings.dev else None,
        clock_ms=clock_ms,
        new_id=new_id,
        model=model,
        outcomes=outcomes,
        tail=tail,
        gateway=gateway,
        submissions=Submissions(gateway, directory, cell, partitions, clock_ms, new_id),
        jobs=JobCommands(commands_of_users, cell),
        queues=QueueCommands(commands_of_users, directory, cell),
        quarantine=Quarantine(
            QuarantineBook(reading, topic_name(cell, Topic.QUARANTINE)),
            producer,
            (topic_name(cell, Topic.COMMANDS), topic_name(cell, Topic.QUARANTINE)),
            partitions,
            clock_ms,
        ),
        events=EventStreams(tail, CatchUp(reading, events_topic), model, cell, metrics, subscriptions),
        levels=ServiceLevels(model, subscriptions, clock_ms),
        services=[gate, model, PoolGauges(model, metrics), producer, outcomes, tail, directory, request_counts],
    )


def lowest_level(settings: Settings) -> int:
    """The lowest format level of the cell's partitions; of one that has had no owner, the oldest. Blocks."""
    # Imported here: no command of this release asks for it, and it brings the owner's state with it.
    from jobledger.processors.cell_levels import read_levels  # noqa: PLC0415

    return min(one.level or OLDEST for one in read_levels(settings.kafka, settings.cell, settings.partitions))


def _add_checks(health: Health, components: Components) -> None:
    """What this api has read of the log, and how far the read models are behind that."""
    tail = components.tail

    async def tails() -> Checked:
        details = {"events": sum(tail.vector.values()), "subscribers": tail.subscribers}
        if tail.running and components.outcomes.running:
            return Checked(details=details)
        return Checked(HealthStatus.UNHEALTHY, {**details, "error": "the log has not been read to its end"})

    async def projection() -> Checked:
        oldest = tail.oldest_unseen_ms(await components.model.position())
        lag = 0.0 if oldest is None else max(0, components.clock_ms() - oldest) / 1000
        status = HealthStatus.DEGRADED if lag > LATE_SECONDS else HealthStatus.HEALTHY
        return Checked(status, {"lag_seconds": round(lag, 1)})

    health.add("tails", tails)
    # All apis read the same read models: were they not ready for that, nobody could submit while projectors are down.
    health.add("projection", projection, timeout=3.0, critical=False, keep_seconds=KEEP_SECONDS)


def topic_watch(settings: Settings, components: Components) -> TopicWatch:
    """Sees also what was made anew while this process did not run: the projectors have noted what they read."""
    remembered = None if settings.accept_new_topics else components.model.topic_ids
    return TopicWatch(settings.kafka.client_config(), settings.cell, remembered=remembered)


async def run(settings: Settings) -> int:
    """Run the api until a signal or a failure; the process's exit code."""
    process = Process.of("api", settings)
    api = build_api(settings, process.metrics, process.tracing, process.health, instance_id=process.instance)

    def end_streams() -> None:
        api.components.tail.end_all("This api process is stopping; subscribe again after the position.")

    listener = graphql_server(api.app, settings.host, settings.api_port, end_streams)
    return await process.run([topic_watch(settings, api.components), *api.services, listener])


def main(settings: Settings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop)
