"""Service levels and golden signals: from what was counted in spans of time to the answers of the api."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

from jobledger.domain.quantiles import quantile
from jobledger.domain.service_levels import (
    AVAILABILITY,
    COMPLETION,
    ERROR_RATE,
    SCHEDULING_ACCURACY,
    WINDOW_DAYS,
    Objective,
)
from jobledger.graphql.open_subscriptions import OpenSubscriptions
from jobledger.graphql.reads import read_model_errors
from jobledger.graphql.shared_answers import SharedAnswer
from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.graphql.types.service_levels import GoldenSignals, JobsInHour, Saturation, ServiceLevel
from jobledger.projections.read_model import ReadModel, Snapshot
from jobledger.projections.signal_queries import Counted, Signals
from jobledger.projections.signals import LATENCY_BOUNDS_SECONDS
from jobledger.projections.time_spans import DAY, HOUR, MINUTE, span_start_ms

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 5, 3_600
#: What is shown as now, and compared with as much before.
NOW_SECONDS = 5 * MINUTE
TREND_HOURS = 24
LATENCY_SHARE = 0.99
#: Counted spans with their starts.
Spans = Sequence[tuple[int, Counted]]


class ServiceLevels:
    """One for a process: its callers share what was computed."""

    def __init__(self, model: ReadModel, subscriptions: OpenSubscriptions, clock_ms: Callable[[], int]) -> None:
        self._model = model
        self._subscriptions = subscriptions
        self._clock_ms = clock_ms
        self._levels = {days: SharedAnswer(partial(self._compute_levels, days)) for days in range(1, WINDOW_DAYS + 1)}
        self._signals = SharedAnswer(self._compute_signals)

    async def levels(self, window_days: int) -> list[ServiceLevel]:
        """How the objectives are kept; raises QueryError."""
        return await self._levels_over(window_days).get()

    async def signals(self) -> GoldenSignals:
        """The golden signals; raises QueryError."""
        return await self._signals.get()

    async def follow_levels(self, window_days: int, every_seconds: int) -> AsyncGenerator[list[ServiceLevel], None]:
        """The same again and again; raises QueryError."""
        shared, seconds = self._levels_over(window_days), _interval(every_seconds)
        with self._subscriptions.one():
            async with aclosing(shared.every(seconds)) as answers:
                async for answer in answers:
                    yield answer

    async def follow_signals(self, every_seconds: int) -> AsyncGenerator[GoldenSignals, None]:
        """The same again and again; raises QueryError."""
        seconds = _interval(every_seconds)
        with self._subscriptions.one():
            async with aclosing(self._signals.every(seconds)) as answers:
                async for answer in answers:
                    yield answer

    def _levels_over(self, window_days: int) -> SharedAnswer[list[ServiceLevel]]:
        if window_days not in self._levels:
            problem = f"windowDays is {window_days}"
            raise QueryError(
                user_error(ErrorCode.INVALID, problem, f"use 1 to {WINDOW_DAYS}", ["windowDays"], window_days)
            )
        return self._levels[window_days]

    async def _compute_levels(self, days: int) -> list[ServiceLevel]:
        now_ms = self._clock_ms()
        window_ms = span_start_ms(now_ms, HOUR) - days * DAY * 1000
        hour_ms = span_start_ms(now_ms, MINUTE) - HOUR * 1000
        async with self._view() as view:
            jobs, jobs_now = await view.signals(HOUR, window_ms), await view.signals(MINUTE, hour_ms)
            requests, requests_now = await view.api_requests(HOUR, window_ms), await view.api_requests(MINUTE, hour_ms)
        return [
            _level(AVAILABILITY, days, requests, requests_now),
            _level(SCHEDULING_ACCURACY, days, _of(jobs, "due"), _of(jobs_now, "due")),
            _level(COMPLETION, days, _of(jobs, "completion"), _of(jobs_now, "completion")),
            _level(ERROR_RATE, days, _of(jobs, "ends"), _of(jobs_now, "ends")),
        ]

    async def _compute_signals(self) -> GoldenSignals:
        now_ms = self._clock_ms()
        since_ms = span_start_ms(now_ms, MINUTE) - (NOW_SECONDS - MINUTE) * 1000
        trend_ms = span_start_ms(now_ms, HOUR) - (TREND_HOURS - 1) * HOUR * 1000
        async with self._view() as view:
            minutes = await view.signals(MINUTE, since_ms - NOW_SECONDS * 1000)
            hours = await view.signals(HOUR, trend_ms)
            saturation = await _saturation(view, now_ms)
        now = _Shown([span for span in minutes if span.start_ms >= since_ms], (now_ms - since_ms) / 1000)
        before = _Shown([span for span in minutes if span.start_ms < since_ms], NOW_SECONDS)
        return GoldenSignals(
            latency_p99_seconds=now.latency,
            latency_p99_seconds_delta=_delta(now.latency, before.latency),
            traffic_per_second=now.traffic,
            traffic_per_second_delta=now.traffic - before.traffic,
            error_rate=now.error_rate,
            error_rate_delta=_delta(now.error_rate, before.error_rate),
            saturation=saturation,
            jobs=_trend(hours, trend_ms),
        )

    @asynccontextmanager
    async def _view(self) -> AsyncGenerator[Snapshot, None]:
        """All of one answer is of one instant, over one connection."""
        with read_model_errors():
            async with self._model.snapshot() as view:
                yield view


async def _saturation(view: Snapshot, now_ms: int) -> Saturation:
    pools, connections = await view.pools(now_ms), await view.connections()
    busy, slots = sum(pool.busy for pool in pools), sum(pool.slots for pool in pools)
    return Saturation(
        queue_depth=await view.queue_depth(),  # type: ignore[arg-type]
        workers_busy=busy,  # type: ignore[arg-type]
        workers_total=slots,  # type: ignore[arg-type]
        database_connections=connections.used,
        database_connections_limit=connections.limit,
    )


class _Shown:
    """The signals of a span; None where nothing was counted."""

    def __init__(self, spans: Sequence[Signals], seconds: float) -> None:
        counts = [sum(bucket) for bucket in zip(*(span.latency for span in spans), strict=True)]
        ends = sum((span.ends for span in spans), Counted())
        self.latency = quantile(LATENCY_SHARE, LATENCY_BOUNDS_SECONDS, counts)
        self.traffic = sum(counts) / max(seconds, 1.0)
        self.error_rate = None if ends.total == 0 else ends.bad / ends.total


def _level(objective: Objective, days: int, window: Spans, last_hour: Spans) -> ServiceLevel:
    found, now = _sum(window), _sum(last_hour)
    return ServiceLevel(
        name=objective.name,
        objective=objective.meaning,
        target=objective.target,
        window_days=days,
        since=window[0][0] if window else None,  # type: ignore[arg-type]
        actual=objective.actual(found.total, found.bad),
        total=found.total,  # type: ignore[arg-type]
        bad=found.bad,  # type: ignore[arg-type]
        excluded=found.excluded,  # type: ignore[arg-type]
        error_budget=objective.budget * found.total,
        error_budget_remaining=objective.budget_remaining(found.total, found.bad),
        burn_rate=objective.burn_rate(now.total, now.bad),
    )


def _of(spans: Iterable[Signals], name: str) -> Spans:
    """One of the counts, of the spans in which there is any."""
    found = [(span.start_ms, getattr(span, name)) for span in spans]
    return [(start_ms, counted) for start_ms, counted in found if counted != Counted()]


def _sum(spans: Spans) -> Counted:
    return sum((counted for _, counted in spans), Counted())


def _delta(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _trend(hours: Iterable[Signals], first_ms: int) -> list[JobsInHour]:
    found = {span.start_ms: span for span in hours}
    starts = [first_ms + number * HOUR * 1000 for number in range(TREND_HOURS)]
    return [_in_hour(start_ms, found.get(start_ms)) for start_ms in starts]


def _in_hour(start_ms: int, span: Signals | None) -> JobsInHour:
    ends = Counted() if span is None else span.ends
    return JobsInHour(
        start=start_ms,  # type: ignore[arg-type]
        dispatched=0 if span is None else sum(span.latency),  # type: ignore[arg-type]
        succeeded=ends.total - ends.bad,  # type: ignore[arg-type]
        failed=ends.bad,  # type: ignore[arg-type]
        cancelled=ends.excluded,  # type: ignore[arg-type]
    )


def _interval(seconds: int) -> int:
    if MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        return seconds
    remedy = f"use {MIN_INTERVAL_SECONDS} to {MAX_INTERVAL_SECONDS}"
    raise QueryError(user_error(ErrorCode.INVALID, f"everySeconds is {seconds}", remedy, ["everySeconds"], seconds))
