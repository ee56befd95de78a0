"""Gauges of an api's connections to Postgres."""

from __future__ import annotations

import asyncio

from jobledger.projections.read_model import ReadModel
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 2.0


class PoolGauges(TaskService):
    """Looks at the pool every two seconds."""

    name = "pool-gauges"

    def __init__(self, model: ReadModel, metrics: Metrics) -> None:
        self._model = model
        self._metrics = metrics

    async def start(self) -> None:
        """Begin to look."""
        self._begin(self._run(), self.name)

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Set the gauges once."""
        use = self._model.pool_use
        self._metrics.set("jobledger_database_pool_connections", use.used, state="used")
        self._metrics.set("jobledger_database_pool_connections", use.idle, state="idle")
        self._metrics.set("jobledger_database_pool_waiting", use.waiting)
