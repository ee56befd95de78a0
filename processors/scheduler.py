"""A scheduler: its app, started and stopped as one service of the process."""

from __future__ import annotations

from jobledger.processors.app import create_app
from jobledger.processors.clock import SystemClock
from jobledger.processors.faust_internals import session_age
from jobledger.processors.owners import OwnerSet
from jobledger.processors.scheduler_services import SchedulerServices
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import CompoundService
from jobledger.telemetry.traces import Tracing


class LeftBehindError(RuntimeError):
    """Services of the app did not stop well."""


class Scheduler(CompoundService):
    """Serves what the group gives it. A service of its app that fails ends it, as PartFailedError."""

    name = "scheduler"

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: SystemClock, tracing: Tracing | None = None
    ) -> None:
        super().__init__()
        self.services = SchedulerServices(settings, metrics, clock, tracing)
        self.app = create_app(settings, self.services, metrics)
        self._begun = False

    @property
    def owners(self) -> OwnerSet:
        """The partition owners."""
        return self.services.owners

    @property
    def session_age(self) -> float | None:
        """Seconds since the group last said that this process is its member; None: it is none."""
        return session_age(self.app)

    async def start(self) -> None:
        """Join the group; returns when it has settled and the partitions it gave are served. Raises PartFailedError."""
        self._stand()
        self._begun = True
        self._follow(self.app.failed(), "scheduler-failure")
        await self.app.start()

    async def stop(self) -> None:
        """Leave the group, then close the owners; raises LeftBehindError."""
        try:
            if self._begun:
                await self.app.stop()
        finally:
            await super().stop()
        if self.app.left_behind:
            raise LeftBehindError(f"Did not stop: {', '.join(self.app.left_behind)}.")
