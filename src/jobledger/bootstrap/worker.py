"""The role `jobledger worker`: one process that runs handlers."""

from __future__ import annotations

import os
import sys

import uuid_utils
import uvloop

from jobledger.bootstrap.dependencies import ANSWER_SECONDS, KEEP_SECONDS, add_queue
from jobledger.bootstrap.process import Process
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.logs import get_logger, scrub
from jobledger.workers.cell_check import CellCheck
from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.handler_logs import log_what_is_printed
from jobledger.workers.registry import Registry, load_handlers
from jobledger.workers.runtime import DRAIN_SECONDS, Worker, WorkerConfigError, worker_id
from jobledger.workers.secret_stores.choice import SecretStoreConfigError, open_secret_store
from jobledger.workers.secret_stores.port import NoSecret, SecretStore

STOP_SECONDS = DRAIN_SECONDS + 30.0
#: A secret store that takes longer is DEGRADED.
SECRET_STORE_SECONDS = 0.2
#: From the signal to the end of the process.
GRACE_SECONDS = STOP_SECONDS + 5.0

log = get_logger()


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


def add_worker(health: Health, settings: Settings, worker: Worker, registry: Registry) -> None:
    """What is a worker's own: its lease, and its handlers."""

    async def lease() -> Checked:
        details = {"heartbeat_age_seconds": round(min(worker.heartbeat_age, 1e6), 3), "running": worker.running}
        if not worker.lease_valid:
            return Checked(HealthStatus.UNHEALTHY, details)
        late = worker.heartbeat_age > 2 * settings.heartbeat_interval_seconds
        return Checked(HealthStatus.DEGRADED if late else HealthStatus.HEALTHY, details)

    async def handlers() -> dict[str, object]:
        return {"handlers": registry.names, "slots": settings.worker_slots, "queues": settings.worker_queues}

    health.add("lease", lease)
    health.add("handlers", handlers, critical=False)


def add_secret_store(health: Health, store: SecretStore, test_secret: str) -> None:
    """Whether the store gives a secret. A worker without it goes on with what needs none."""

    async def secret_store() -> Checked:
        found = await store.fetch(test_secret)
        if isinstance(found, NoSecret):
            return Checked(HealthStatus.UNHEALTHY, {"error": scrub(found.message), "reason": found.reason})
        return Checked()

    health.add(
        "secret_store",
        secret_store,
        timeout=ANSWER_SECONDS,
        slow_after=SECRET_STORE_SECONDS,
        critical=False,
        keep_seconds=KEEP_SECONDS,
    )


async def run(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit code (2: settings or handlers that can't work)."""
    process = Process.of("worker", settings, instance=worker_id(settings))
    log_what_is_printed()
    try:
        registry = load_registry(settings)
        worker = Worker(settings, registry, process.metrics, process.tracing, new_id=lambda: str(uuid_utils.uuid7()))
        secrets = open_secret_store(settings.secret_store)
    except (HandlerLoadError, WorkerConfigError, SecretStoreConfigError) as error:
        log.critical("part_failed", part="worker", message=str(error))
        print(str(error), file=sys.stderr)  # noqa: T201 - the one sentence for the person who started it
        return 2
    log.info("handlers_loaded", handlers=registry.names)
    if process.tracing.sdk is not None:
        process.tracing.sdk.offer_to_handlers()
    add_queue(process.health, settings, process.instance)
    add_worker(process.health, settings, worker, registry)
    if secrets is not None:
        add_secret_store(process.health, secrets, settings.secret_store.test_secret)
    kafka = settings.kafka.client_config()
    cell = CellCheck(kafka, settings.cell, settings.partitions)
    try:
        code = await process.run([cell, TopicWatch(kafka, settings.cell), worker], stop_seconds=STOP_SECONDS)
    finally:
        if secrets is not None:
            await secrets.close()
    if cell.refusal:
        print(cell.refusal, file=sys.stderr)  # noqa: T201 - as above
        return 2
    return code


def main(settings: Settings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop, grace_seconds=GRACE_SECONDS)
