"""The role `jobledger projector`: everything of its process, built from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Protocol

import psycopg
import stamina
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from jobledger.eventlog.clients import KafkaConnection
from jobledger.eventlog.topic_watch import TopicWatch, topic_ids
from jobledger.eventlog.topics import Durability, TopicError, check_topics
from jobledger.projections.migrate import MigrationError, migrate
from jobledger.projections.projector import Projector, ProjectorConfig
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.topics import Topic
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.logs import Level, configure_logging, get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.supervision import run_until_signalled

log = get_logger()

VERSION = version("jobledger")

#: How long the start waits for Postgres, Kafka and the topics, which a scheduler makes.
START_SECONDS = 60.0
BROKER_CHECK_SECONDS = 2.0
#: A partition further behind than this makes the process degraded.
LAG_SECONDS = 30.0


class KafkaSettings(KafkaConnection, Protocol):
    """The part of the settings about Kafka that this role needs."""

    replication_factor: int
    min_insync_replicas: int


class ProjectorSettings(Protocol):
    """The part of the settings that this role needs."""

    cell: str
    partitions: int
    dev: bool
    host: str
    health_port: int
    postgres_dsn: SecretStr
    postgres_schema: str
    instance_id: str
    session_timeout_seconds: float
    accept_new_topics: bool

    @property
    def log_level(self) -> Level: ...  # noqa: D102
    @property
    def kafka(self) -> KafkaSettings: ...  # noqa: D102


def build_projector(settings: ProjectorSettings, metrics: Metrics, topic_id: str = "") -> Projector:
    """The projector of a cell; needs the schema (`prepare`)."""
    config = ProjectorConfig(
        kafka=settings.kafka,
        cell=settings.cell,
        dsn=settings.postgres_dsn.get_secret_value(),
        schema=settings.postgres_schema,
        instance_id=settings.instance_id,
        session_timeout_seconds=settings.session_timeout_seconds,
        topic_id=topic_id,
        accept_new_topics=settings.accept_new_topics,
    )
    return Projector(config, metrics)


def prepare(settings: ProjectorSettings, timeout: float = START_SECONDS) -> str:
    """Migrate the schema and check the topics; the id of the topic of events.

    Waits for servers and topics that aren't there yet.

    Raises MigrationError, TopicError, psycopg.Error or KafkaException, with a sentence that says what to do.
    """
    for attempt in _attempts(_told("db_connection_lost", psycopg.OperationalError), timeout):
        with attempt:
            migrate(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    durability = Durability(
        replication_factor=settings.kafka.replication_factor,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        dev=settings.dev,
    )
    found: dict[str, str] = {}
    kafka_lost = _told("queue_connection_lost", KafkaException)
    for attempt in _attempts(lambda error: kafka_lost(error) or _is_to_be_made(error), timeout):
        with attempt:
            check_topics(settings.kafka.client_config(), settings.cell, settings.partitions, durability)
            found = topic_ids(settings.kafka.client_config(), settings.cell)
    return found[Topic.EVENTS]


def _attempts(on: Callable[[Exception], bool], timeout: float) -> Iterator[stamina.Attempt]:
    return iter(stamina.retry_context(on=on, attempts=None, timeout=timeout, wait_initial=0.1, wait_max=2.0))


def _told(event: str, kind: type[Exception]) -> Callable[[Exception], bool]:
    """Whether an error is of a kind that may pass; the first one is logged, for the start waits in silence else."""
    told = False

    def is_it(error: Exception) -> bool:
        nonlocal told
        if isinstance(error, kind) and not told:
            told = True
            log.error(event, error=str(error))
        return isinstance(error, kind)

    return is_it


def _is_to_be_made(error: Exception) -> bool:
    """Topics that the first scheduler has still to make."""
    return isinstance(error, TopicError) and "does not exist" in str(error)


async def run(settings: ProjectorSettings) -> int:
    """Run the role until a signal; returns the exit code of the process."""
    instance = instance_name("projector", settings.instance_id)
    configure_logging("projector", instance, level=settings.log_level)
    stamina.instrumentation.set_on_retry_hooks([])  # what is retried is logged here, by its own name
    log.info("process_started")
    try:
        topic_id = await asyncio.to_thread(prepare, settings)
    except (MigrationError, TopicError, psycopg.Error, KafkaException) as error:
        log.critical("part_failed", part="projector", exc_info=error, message=str(error))
        return 1
    metrics = Metrics("projector", instance_id=instance, version=VERSION)
    projector = build_projector(settings, metrics, topic_id)
    topics = TopicWatch(settings.kafka.client_config(), settings.cell)
    # A pool of one, made at the start, so that the health page can still look when others have used up Postgres.
    model = ReadModel(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, max_size=1)
    health = Health(VERSION)
    add_checks(health, settings, projector, model)
    server = HealthServer(health, metrics, host=settings.host, port=settings.health_port)
    return await run_until_signalled(
        [server, topics, model, projector],
        on_ready=lambda: health.set_ready(True),
        on_stopping=lambda: health.set_ready(False),
    )


def main(settings: ProjectorSettings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop)


def add_checks(health: Health, settings: ProjectorSettings, projector: Projector, model: ReadModel) -> None:
    """Postgres, Kafka, and how far this projector is behind."""
    admin = AdminClient({**settings.kafka.client_config(), "log_level": 2})

    async def queue() -> None:
        await asyncio.to_thread(admin.list_topics, timeout=BROKER_CHECK_SECONDS)

    async def projection() -> Checked:
        lags = projector.lags
        worst = max(lags.values(), default=0.0)
        aside = projector.set_aside
        state = HealthStatus.DEGRADED if worst > LAG_SECONDS or aside else HealthStatus.HEALTHY
        return Checked(state, {"partitions": len(lags), "lag_seconds": round(worst, 1), "set_aside": aside})

    health.add("database", model.ping, timeout=3.0, slow_after=1.0)
    health.add("queue", queue, timeout=3.0, slow_after=1.0)
    health.add("projection", projection, timeout=1.0, critical=False)
