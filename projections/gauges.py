"""Gauges that the read models and their database can tell, also when no scheduler lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 10.0
_OF_POOLS = ("jobledger_workers_registered", "jobledger_workers_healthy", "worker_utilization")
_OF_ALL = ("jobledger_overdue_jobs", "jobledger_database_connections", "jobledger_database_connections_limit")


class ReadModelGauges(TaskService):
    """Looks every ten seconds, over the connection of `model`, which has to be one that was made at the start.

    While Postgres doesn't answer there are no series. `lag_seconds`: how far the rows are behind the log: what came due
    since then is not known to be late.
    """

    name = "read-model-gauges"

    def __init__(self, model: ReadModel, metrics: Metrics, lag_seconds: Callable[[], float]) -> None:
        self._model = model
        self._metrics = metrics
        self._lag_seconds = lag_seconds
        self._pools: set[str] = set()

    async def start(self) -> None:
        """Begin to look."""
        self._begin(self._run(), self.name)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask once and set every gauge."""
        now_ms = time.time_ns() // 1_000_000
        try:
            overdue = await self._model.overdue(now_ms - round(self._lag_seconds() * 1000))
            pools = await self._model.pools(now_ms)
            connections = await self._model.connections()
        except ReadModelUnavailableError:
            self._forget()
            return
        self._metrics.set("jobledger_overdue_jobs", overdue.count)
        self._metrics.set("jobledger_database_connections", connections.used)
        self._metrics.set("jobledger_database_connections_limit", connections.limit)
        for one in pools:
            self._metrics.set("jobledger_workers_registered", one.registered, pool=one.pool)
            self._metrics.set("jobledger_workers_healthy", one.healthy, pool=one.pool)
            if one.slots:
                self._metrics.set("worker_utilization", min(1.0, one.busy / one.slots), pool=one.pool)
            else:
                self._metrics.drop("worker_utilization", pool=one.pool)
        self._drop_pools(self._pools - {one.pool for one in pools})
        self._pools = {one.pool for one in pools}

    def _forget(self) -> None:
        for name in _OF_ALL:
            self._metrics.drop(name)
        self._drop_pools(self._pools)
        self._pools = set()

    def _drop_pools(self, pools: set[str]) -> None:
        for pool in pools:
            self._metrics.drop_matching(_OF_POOLS, pool=pool)
