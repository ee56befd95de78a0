"""Keeps the api's own counts of requests beyond its life: the availability of 30 days has to survive restarts.

Every few seconds the growth of `api_requests_total`, the counter that Prometheus reads too, goes into Postgres: to
requests it costs nothing. A process that is killed takes the last seconds with it; for a Postgres that is away it is
made up later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psycopg

from jobledger.projections.api_requests import RequestSpan
from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError
from jobledger.projections.time_spans import HOUR, KEPT_SECONDS, span_start_ms
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

SAVE_SECONDS = 5.0
#: For the last counts of a process that ends.
LAST_SAVE_SECONDS = 2.0
_ERRORS = (ReadModelUnavailableError, psycopg.Error)

log = get_logger()


class RequestCounts(TaskService):
    """`api` names this process for its life."""

    name = "request-counts"

    def __init__(self, model: ReadModel, metrics: Metrics, clock_ms: Callable[[], int], api: str) -> None:
        self._model = model
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._api = api
        self._seen = (0, 0)
        self._spans: dict[tuple[int, int], RequestSpan] = {}
        self._unsaved: set[tuple[int, int]] = set()
        self._failing = False
        self._tidied_ms = 0

    async def start(self) -> None:
        """Begin to save."""
        self._begin(self._run(), self.name)

    async def stop(self) -> None:
        """Save what has come last, if Postgres takes it soon."""
        running = self._task is not None and not self._task.done()
        await super().stop()
        if running:
            with contextlib.suppress(TimeoutError, *_ERRORS):
                async with asyncio.timeout(LAST_SAVE_SECONDS):
                    await self._save()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            try:
                await self._save()
                self._failing = False
            except _ERRORS as error:
                if not self._failing:
                    self._failing = True
                    log.warning("request_counts_unsaved", error=str(error))

    async def _save(self) -> None:
        now_ms = self._clock_ms()
        self._count(now_ms)
        if self._unsaved:
            await self._model.save_requests([self._spans[key] for key in sorted(self._unsaved)])
            self._unsaved.clear()
        self._forget(now_ms)
        if (hour_ms := span_start_ms(now_ms, HOUR)) != self._tidied_ms:
            await self._model.forget_requests(now_ms)
            self._tidied_ms = hour_ms

    def _count(self, now_ms: int) -> None:
        total = failed = 0
        for labels, value in self._metrics.read("api_requests_total"):
            total += int(value)
            failed += int(value) if labels["status_code"].startswith("5") else 0
        grown = total - self._seen[0], failed - self._seen[1]
        self._seen = total, failed
        for seconds in KEPT_SECONDS if grown[0] else ():
            key = seconds, span_start_ms(now_ms, seconds)
            span = self._spans.setdefault(key, RequestSpan(api=self._api, span_seconds=seconds, start_ms=key[1]))
            span.total += grown[0]
            span.failed += grown[1]
            self._unsaved.add(key)

    def _forget(self, now_ms: int) -> None:
        """What is saved and over, and what would not be kept."""
        for key in list(self._spans):
            seconds, start_ms = key
            over = key not in self._unsaved and start_ms < span_start_ms(now_ms, seconds)
            if over or start_ms < now_ms - KEPT_SECONDS[seconds] * 1000:
                del self._spans[key]
                self._unsaved.discard(key)
