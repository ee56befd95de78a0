"""The role `jobledger projector`: the read models, folded from the log."""

from __future__ import annotations

import asyncio

import psycopg
import uvloop
from confluent_kafka import KafkaException

from jobledger.bootstrap.dependencies import add_database, add_queue
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

#: Further behind than this is DEGRADED; then UNHEALTHY, which is not ready.
LATE_SECONDS = 30.0
TOO_LATE_SECONDS = 60.0
#: A projector that has not looked for so long is behind by that time at least.
SILENT_SECONDS = 5.0

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
    add_database(process.health, model.ping)
    add_queue(process.health, settings, process.instance)
    add_projection(process.health, projector)
    return await process.run([topics, model, projector, gauges])


def main(settings: Settings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop)


def add_projection(health: Health, projector: Projector) -> None:
    """How far this projector is behind. One that has no partitions is behind by nothing."""

    async def projection() -> Checked:
        lags = projector.lags
        silent = projector.silent_seconds
        worst = max([*lags.values(), silent if silent > SILENT_SECONDS else 0.0])
        aside = projector.set_aside
        details = {"partitions": len(lags), "lag_seconds": round(worst, 1), "set_aside": aside}
        if worst > TOO_LATE_SECONDS:
            error = f"the read models are {worst:.0f} s behind the log"
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": error})
        return Checked(HealthStatus.DEGRADED if worst > LATE_SECONDS or aside else HealthStatus.HEALTHY, details)

    health.add("projection", projection)
