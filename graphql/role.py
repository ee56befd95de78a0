"""The api role: composition and main loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import uuid_utils
import uvloop
from starlette.applications import Starlette

import jobledger
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.graphql.app import build_app
from jobledger.graphql.parts import ApiSettings, Parts, build_parts
from jobledger.graphql.server import graphql_server
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.logs import configure_logging, get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.supervision import run_until_signalled
from jobledger.telemetry.traces import Tracing

DEFAULT_INSTANCE = "api-1"

log = get_logger()


class RoleSettings(ApiSettings, Protocol):
    """What the role needs beside the parts."""

    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def api_port(self) -> int: ...  # noqa: D102
    @property
    def health_port(self) -> int: ...  # noqa: D102
    @property
    def instance_id(self) -> str: ...  # noqa: D102
    @property
    def log_level(self) -> Any: ...  # noqa: D102
    @property
    def accept_new_topics(self) -> bool: ...  # noqa: D102


@dataclass(slots=True)
class Api:
    """An api process in parts; start `services` in order, or serve `app` in a test."""

    parts: Parts
    app: Starlette
    health: Health
    metrics: Metrics

    @property
    def services(self) -> list[Service]:
        """Everything but the listeners."""
        return self.parts.services


def new_id() -> str:
    """A UUIDv7."""
    return str(uuid_utils.uuid7())


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def build(
    settings: ApiSettings,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
    *,
    clock_ms: Callable[[], int] = now_ms,
    ids: Callable[[], str] = new_id,
    instance_id: str = DEFAULT_INSTANCE,
) -> Api:
    """Put an api process together; nothing is started."""
    metrics = metrics or Metrics("api", instance_id=instance_id, version=jobledger.__version__)
    parts = build_parts(
        settings,
        metrics,
        tracing or Tracing(),
        clock_ms=clock_ms,
        monotonic=time.monotonic,
        new_id=ids,
        client_id=instance_id,
    )
    health = Health(jobledger.__version__)
    _add_checks(health, parts)
    return Api(parts, build_app(parts, health), health, metrics)


def _add_checks(health: Health, parts: Parts) -> None:
    async def queue() -> Checked:
        if not (parts.tail.running and parts.outcomes.running):
            return Checked(HealthStatus.UNHEALTHY, {"error": "the tails of the log are not running"})
        return Checked(details={"events": sum(parts.tail.vector.values()), "subscribers": parts.tail.subscribers})

    async def database() -> dict[str, object]:
        return await parts.model.ping()

    health.add("queue", queue)
    # Mutations and subscriptions go on without it, and queries say so themselves.
    health.add("database", database, timeout=3.0, slow_after=0.5, critical=False)


def topic_watch(settings: RoleSettings, parts: Parts) -> TopicWatch:
    """Sees also what was made anew while this process did not run: the projectors have noted what they read."""
    remembered = None if settings.accept_new_topics else parts.model.topic_ids
    return TopicWatch(settings.kafka.client_config(), settings.cell, remembered=remembered)


async def run(settings: RoleSettings) -> int:
    """Run the api until a signal or a failure; the process's exit code."""
    instance_id = instance_name("api", settings.instance_id)
    configure_logging("api", instance_id, level=settings.log_level)
    log.info("process_started")
    metrics = Metrics("api", instance_id=instance_id, version=jobledger.__version__)
    tracing = Tracing.from_environment("api", instance_id, jobledger.__version__)
    api = build(settings, metrics, tracing, instance_id=instance_id)

    def end_streams() -> None:
        api.parts.tail.end_all("This api process is stopping; subscribe again after the position.")

    services: list[Service] = [
        HealthServer(api.health, metrics, host=settings.host, port=settings.health_port),
        topic_watch(settings, api.parts),
        *api.services,
        graphql_server(api.app, settings.host, settings.api_port, end_streams),
    ]
    try:
        return await run_until_signalled(
            services,
            on_ready=lambda: api.health.set_ready(True),
            on_stopping=lambda: api.health.set_ready(False),
        )
    finally:
        await tracing.stop()


def main(settings: RoleSettings) -> int:
    """`run` on uvloop, to the end of the process."""
    return run_role(lambda: run(settings), loop_factory=uvloop.new_event_loop)
