"""The role `jobledger projector`: the read models, folded from the log."""

from __future__ import annotations

import asyncio

import psycopg
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from jobledger.bootstrap.process import Process
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.eventlog.topics import TopicError
from jobledger.projections.gauges import ReadModelGauges
from jobledger.projections.migrate import MigrationError
from jobledger.projections.preparing import prepare
from jobledger.projections.projector import Projector
from jobledger.projections.read_model import ReadModel
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.logs import get_logger

BROKER_CHECK_SECONDS = 2.0
#: A partition further behind than this makes the process degraded.
LAG_SECONDS = 30.0

log = get_logger()


async def run(settings: Settings) -> int:
    """Run the role until a signal; returns the exit code of the process."""
    process = Process.of("projector", settings)
    try:
        topic_id = await asyncio.to_thread(prepare, settings)
    except (MigrationError, TopicError, psycopg.Error, KafkaException) as error:
        log.critical("part_failed", part="projector", exc_info=error, message=str(error))
        return 1
    projector = Projector(settings, process.metrics, topic_id, process.tracing)
    topics = TopicWatch(settings.kafka.client_config(), settings.cell)
    # A pool of one, made at the start and kept, so that the health page and the gauges can still look when others have
    # used up Postgres.
    model = ReadModel(settings.postgres_dsn.get_secret_value(), settings.postgres_schema, max_size=1, renewed=False)
    gauges = ReadModelGauges(model, process.metrics, lambda: max(projector.lags.values(), default=0.0))
    _add_checks(process.health, settings, projector, model)
    return await process.run([topics, model, projector, gauges])


def main(settings: Settings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop)


def _add_checks(health: Health, settings: Settings, projector: Projector, model: ReadModel) -> None:
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
