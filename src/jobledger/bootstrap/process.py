"""What a process of any role has: a name, logs, metrics, spans, a health page, and the services that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import stamina

import jobledger
from jobledger.settings import Settings
from jobledger.telemetry.health import Health
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.logs import configure_logging, get_logger
from jobledger.telemetry.loop_watch import LoopWatch
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.supervision import STOP_TIMEOUT, run_until_signalled
from jobledger.telemetry.traces import Tracing

log = get_logger()


@dataclass(frozen=True, slots=True)
class Process:
    """The surroundings of a role's services."""

    settings: Settings
    instance: str
    metrics: Metrics
    tracing: Tracing
    health: Health

    @classmethod
    def of(cls, role: str, settings: Settings, *, instance: str = "") -> Process:
        """This process, which from now on logs as the role.

        `instance` '': as the settings name it, or a name that no other process has.
        """
        instance = instance or instance_name(role, settings.instance_id)
        version = jobledger.__version__
        configure_logging(role, instance, level=settings.log_level, check_events=settings.dev)
        stamina.instrumentation.set_on_retry_hooks([])  # what is tried again is logged where it is, by a name of ours
        log.info("process_started")
        return cls(
            settings,
            instance,
            Metrics(role, instance_id=instance, version=version, pool=settings.worker_pool),
            Tracing.from_environment(role, instance, version),
            Health(version),
        )

    async def run(self, services: Sequence[Service], *, stop_seconds: float = STOP_TIMEOUT) -> int:
        """Run the health page and the services until a signal or a failure; the exit code."""
        server = HealthServer(self.health, self.metrics, host=self.settings.host, port=self.settings.health_port)
        try:
            return await run_until_signalled(
                [server, LoopWatch(self.metrics), *services],
                stop_timeout=stop_seconds,
                on_ready=lambda: self.health.set_ready(True),
                on_stopping=lambda: self.health.set_ready(False),
            )
        finally:
            await self.tracing.stop()
