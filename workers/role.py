"""The role `worker`: one process that runs handlers."""

from __future__ import annotations

import os
import socket
import sys

import uuid_utils
import uvloop

import jobledger
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.listening import ListenError
from jobledger.telemetry.logs import configure_logging, get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.supervision import run_until_signalled
from jobledger.telemetry.traces import Tracing
from jobledger.workers.cell_check import CellCheck
from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.registry import Registry, load_handlers
from jobledger.workers.runtime import DRAIN_SECONDS, Worker, WorkerConfig, WorkerConfigError

STOP_SECONDS = DRAIN_SECONDS + 30.0
#: From the signal to the end of the process.
GRACE_SECONDS = STOP_SECONDS + 5.0

log = get_logger()


def worker_id(settings: Settings) -> str:
    """The stable name of this worker: its slot name, else one made from the host's name."""
    return settings.instance_id or f"worker-{socket.gethostname().partition('.')[0][:60]}"


def worker_config(settings: Settings) -> WorkerConfig:
    """What the settings say about a worker."""
    return WorkerConfig(
        worker=worker_id(settings),
        cell=settings.cell,
        tenant=settings.tenant,
        partitions=settings.partitions,
        queues=settings.worker_queues,
        pool=settings.worker_pool,
        slots=settings.worker_slots,
        lease_seconds=settings.lease_seconds,
        heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
        log_level=settings.log_level,
    )


def load_registry(settings: Settings) -> Registry:
    """The handlers that the settings name; raises HandlerLoadError.

    Modules in the working directory are found, as with `python -m`.
    """
    if not settings.handlers:
        raise HandlerLoadError(
            "The worker has no handlers: name the modules that hold them in JOBLEDGER_HANDLERS, "
            "such as JOBLEDGER_HANDLERS=my_app.handlers."
        )
    if os.getcwd() not in sys.path and "" not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.append(os.getcwd())  # noqa: PTH109 - at the end: no file here may hide an installed package
    return load_handlers(settings.handlers)


def build_worker(settings: Settings, registry: Registry, metrics: Metrics, tracing: Tracing) -> Worker:
    """A worker as the settings say; raises WorkerConfigError."""
    return Worker(
        worker_config(settings), settings.kafka, registry, metrics, tracing, new_id=lambda: str(uuid_utils.uuid7())
    )


def health_of(worker: Worker, settings: Settings, registry: Registry) -> Health:
    """The components of a worker: its lease, which stands for Kafka too, and its handlers."""
    health = Health(jobledger.__version__)

    async def lease() -> Checked:
        details = {"heartbeat_age_seconds": round(min(worker.heartbeat_age, 1e6), 3), "running": worker.running}
        if not worker.lease_valid:
            return Checked(HealthStatus.UNHEALTHY, details)
        late = worker.heartbeat_age > 2 * settings.heartbeat_interval_seconds
        return Checked(HealthStatus.DEGRADED if late else HealthStatus.HEALTHY, details)

    async def handlers() -> dict[str, object]:
        return {"handlers": registry.names, "slots": settings.worker_slots, "queues": settings.worker_queues}

    health.add("queue", lease)
    health.add("handlers", handlers, critical=False)
    return health


async def run(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit code (2: settings or handlers that can't work)."""
    name = worker_id(settings)
    configure_logging("worker", name, level=settings.log_level)
    log.info("process_started")
    metrics = Metrics("worker", instance_id=name, version=jobledger.__version__, pool=settings.worker_pool)
    tracing = Tracing.from_environment("worker", name, jobledger.__version__)
    try:
        registry = load_registry(settings)
        worker = build_worker(settings, registry, metrics, tracing)
    except (HandlerLoadError, WorkerConfigError) as error:
        log.critical("part_failed", part="worker", message=str(error))
        print(str(error), file=sys.stderr)  # noqa: T201 - the one sentence for the person who started it
        return 2
    log.info("handlers_loaded", handlers=registry.names)
    health = health_of(worker, settings, registry)
    server = HealthServer(health, metrics, host=settings.host, port=settings.health_port)
    cell = CellCheck(settings.kafka.client_config(), settings.cell, settings.partitions)
    try:
        code = await run_until_signalled(
            [server, cell, TopicWatch(settings.kafka.client_config(), settings.cell), worker],
            stop_timeout=STOP_SECONDS,
            on_ready=lambda: health.set_ready(True),
            on_stopping=lambda: health.set_ready(False),
        )
        if cell.refusal:
            print(cell.refusal, file=sys.stderr)  # noqa: T201 - as above
            return 2
        return code
    except ListenError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - as above
        return 2
    finally:
        await tracing.stop()


def main(settings: Settings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop, grace_seconds=GRACE_SECONDS)
