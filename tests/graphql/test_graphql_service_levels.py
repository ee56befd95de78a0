"""Service levels and golden signals: what is made of counted spans, and how an answer is shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from jobledger.domain.service_levels import OBJECTIVES
from jobledger.graphql import request_counts, shared_answers
from jobledger.graphql.open_subscriptions import OpenSubscriptions
from jobledger.graphql.request_counts import RequestCounts
from jobledger.graphql.service_levels import ServiceLevels
from jobledger.graphql.shared_answers import SharedAnswer
from jobledger.graphql.types.errors import QueryError
from jobledger.projections.api_requests import RequestSpan
from jobledger.projections.pages import Connections, PoolNow
from jobledger.projections.read_model import ReadModelUnavailableError
from jobledger.projections.signal_queries import Counted, Signals
from jobledger.projections.signals import LATENCY
from jobledger.projections.time_spans import DAY, HOUR, MINUTE
from jobledger.telemetry.metrics import Metrics

NOW = 1_800_000_000_000 + 20 * 60_000 + 30_000
THIS_MINUTE = NOW - 30_000
THIS_HOUR = NOW - NOW % (HOUR * 1000)


def spans(
    start_ms: int, *, late: int = 0, on_time: int = 0, failed: int = 0, ended: int = 0, bucket: int = 3
) -> Signals:
    latency = [0] * len(LATENCY)
    latency[bucket] = on_time + late
    return Signals(
        start_ms=start_ms,
        due=Counted(total=on_time + late, bad=late, excluded=1),
        completion=Counted(total=ended, bad=0),
        ends=Counted(total=ended, bad=failed, excluded=2),
        latency=tuple(latency),
    )


class Shown:
    """What the read model would say; `asked` counts the snapshots."""

    def __init__(self, minutes: list[Signals] | None = None, hours: list[Signals] | None = None) -> None:
        self.spans = {MINUTE: minutes or [], HOUR: hours or []}
        self.requests: dict[int, list[tuple[int, Counted]]] = {MINUTE: [], HOUR: []}
        self.asked = 0
        self.away = False

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Shown]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise ReadModelUnavailableError("it is away")
        yield self

    async def signals(self, seconds: int, from_ms: int) -> list[Signals]:
        return [span for span in self.spans[seconds] if span.start_ms >= from_ms]

    async def api_requests(self, seconds: int, from_ms: int) -> list[tuple[int, Counted]]:
        return [one for one in self.requests[seconds] if one[0] >= from_ms]

    async def queue_depth(self) -> int:
        return 7

    async def pools(self, now_ms: int) -> list[PoolNow]:
        return [PoolNow(pool=name, registered=1, healthy=1, slots=10, busy=4) for name in "ab"]

    async def connections(self) -> Connections:
        return Connections(used=45, limit=97)


def made(shown: Shown) -> ServiceLevels:
    subscriptions = OpenSubscriptions(Metrics("api", instance_id="a", strict=True))
    return ServiceLevels(cast("Any", shown), subscriptions, lambda: NOW)


async def test_of_nothing_nothing_is_known() -> None:
    """No traffic is not 100 %, and no error rate of 0."""
    levels = await made(Shown()).levels(30)
    assert [level.name for level in levels] == [objective.name for objective in OBJECTIVES]
    for level in levels:
        assert level.since is level.actual is level.error_budget_remaining is level.burn_rate is None
        assert (level.total, level.bad, level.excluded) == (0, 0, 0)
    signals = await made(Shown()).signals()
    assert signals.latency_p99_seconds is signals.error_rate is signals.latency_p99_seconds_delta is None
    assert (signals.traffic_per_second, len(signals.jobs)) == (0.0, 24)


async def test_the_window_counts_for_the_budget_and_the_last_hour_for_its_burning() -> None:
    """Two of a thousand failed in the window, one of a hundred in the last hour."""
    shown = Shown(
        minutes=[spans(THIS_MINUTE, ended=100, failed=1), spans(THIS_MINUTE - 61 * 60_000, ended=50, failed=50)],
        hours=[
            spans(THIS_HOUR - 31 * DAY * 1000, ended=10**6, failed=10**6),
            spans(THIS_HOUR - 30 * DAY * 1000, ended=900, failed=1),
            spans(THIS_HOUR, ended=1_100, failed=1, on_time=10),
        ],
    )
    shown.requests = {MINUTE: [], HOUR: [(THIS_HOUR, Counted(total=20_000, bad=1))]}
    availability, accuracy, completion, errors = await made(shown).levels(30)
    assert (errors.total, errors.bad, errors.excluded) == (2_000, 2, 4)
    assert errors.since == THIS_HOUR - 30 * DAY * 1000  # type: ignore[comparison-overlap]
    assert errors.actual == pytest.approx(0.999)
    assert errors.error_budget == pytest.approx(2)
    assert errors.error_budget_remaining == pytest.approx(0)
    assert errors.burn_rate == pytest.approx(10)
    assert availability.error_budget_remaining == pytest.approx(0.5)
    assert availability.burn_rate is None, "no request in the last hour"
    assert (accuracy.total, accuracy.actual, completion.actual) == (10, 1.0, 1.0)
    (_, _, _, lately) = await made(shown).levels(1)
    assert (lately.total, lately.window_days) == (1_100, 1)


async def test_the_signals_are_those_of_five_minutes_against_the_five_before() -> None:
    minutes = [
        spans(THIS_MINUTE, on_time=300, ended=100, failed=1, bucket=1),
        spans(THIS_MINUTE - 4 * 60_000, on_time=240),
        spans(THIS_MINUTE - 5 * 60_000, on_time=600, ended=100, failed=3, bucket=0),
        spans(THIS_MINUTE - 10 * 60_000, on_time=10**6),
    ]
    signals = await made(Shown(minutes, [spans(THIS_HOUR - 3600_000, on_time=5, ended=4, failed=1)])).signals()
    assert signals.traffic_per_second == pytest.approx(540 / 270)
    assert signals.traffic_per_second_delta == pytest.approx(0)
    assert signals.latency_p99_seconds == pytest.approx(0.09885, abs=0.001)
    assert signals.latency_p99_seconds_delta == pytest.approx(0.0939, abs=0.001)
    assert signals.error_rate == pytest.approx(0.01)
    assert signals.error_rate_delta == pytest.approx(-0.02)
    full = signals.saturation
    assert (full.queue_depth, full.workers_busy, full.workers_total) == (7, 8, 20)
    assert (full.database_connections, full.database_connections_limit) == (45, 97)
    before, present = signals.jobs[-2:]
    assert (before.dispatched, before.succeeded, before.failed, before.cancelled) == (5, 3, 1, 2)
    assert (present.start, present.dispatched) == (THIS_HOUR, 0)


@pytest.mark.parametrize(("days", "problem"), [(0, "windowDays is 0; use 1 to 30"), (31, "windowDays is 31")])
async def test_the_window_is_bounded(days: int, problem: str) -> None:
    with pytest.raises(QueryError, match=problem):
        await made(Shown()).levels(days)


@pytest.mark.parametrize("seconds", [4, 3_601])
async def test_the_interval_is_bounded(seconds: int) -> None:
    with pytest.raises(QueryError, match=r"everySeconds is .*; use 5 to 3600"):
        await anext(made(Shown()).follow_signals(seconds))


async def test_subscribers_share_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty ask at the same moments: one question each time."""
    monkeypatch.setattr(shared_answers, "FRESH_SECONDS", 0.15)
    shown, times = Shown(), 3
    one = SharedAnswer(made(shown)._compute_signals)

    async def follow() -> None:
        seen = 0
        async with aclosing(one.every(0.2)) as answers:
            async for _ in answers:
                seen += 1
                if seen == times:
                    return

    await asyncio.gather(*(follow() for _ in range(50)))
    assert 2 <= shown.asked <= times, "the first answer may still be fresh at the next moment"


async def test_an_error_is_shared_too_and_passes() -> None:
    """The coded error of a query; the next question, a second later, is a new one."""
    shown = Shown()
    shown.away = True
    levels = made(shown)
    found = await asyncio.gather(*(levels.levels(30) for _ in range(5)), return_exceptions=True)
    assert {str(error) for error in found} == {"The read model can't be asked now (it is away); try again later."}
    assert shown.asked == 1
    shown.away = False
    levels._levels[30]._begun -= 1.0
    assert len(await levels.levels(30)) == 4


async def test_a_subscription_of_signals_counts_as_one() -> None:
    metrics = Metrics("api", instance_id="a", strict=True)
    levels = ServiceLevels(cast("Any", Shown()), OpenSubscriptions(metrics), lambda: NOW)

    def opened() -> float:
        return next(value for _, value in metrics.read("jobledger_subscriptions"))

    async with aclosing(levels.follow_levels(30, 5)) as answers:
        await anext(answers)
        assert opened() == 1
    assert opened() == 0


# -- requests ---------------------------------------------------------------------------------------------------------


class Kept:
    """What would stand in `api_requests`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], tuple[int, int]] = {}
        self.away = False
        self.tidied = 0

    async def save_requests(self, given: list[RequestSpan]) -> None:
        if self.away:
            raise ReadModelUnavailableError("away")
        self.rows |= {(one.api, one.span_seconds, one.start_ms): (one.total, one.failed) for one in given}

    async def forget_requests(self, now_ms: int) -> None:
        self.tidied += 1

    def of(self, seconds: int) -> list[tuple[int, int]]:
        return [row for (_, span, _), row in sorted(self.rows.items()) if span == seconds]


class Counting:
    """An api that answers, and its clock."""

    def __init__(self) -> None:
        self.now, self.kept = NOW, Kept()
        self.metrics = Metrics("api", instance_id="a", strict=True)
        self.counts = RequestCounts(cast("Any", self.kept), self.metrics, lambda: self.now, "a/1")

    def answer(self, status: int, times: int = 1) -> None:
        labels = {"method": "POST", "endpoint": "/graphql:slo", "status_code": str(status)}
        self.metrics.inc("api_requests_total", times, **labels)


async def test_requests_are_counted_by_minute_and_hour_as_prometheus_has_them() -> None:
    """Failed is what was answered with 5xx; a minute that goes on is written again, whole."""
    one = Counting()
    for status in (200, 404, 429, 500, 503):
        one.answer(status, 2)
    await one.counts._save()
    one.answer(200, 5)
    await one.counts._save()
    assert one.kept.of(MINUTE) == one.kept.of(HOUR) == [(15, 4)]
    one.now += 60_000
    one.answer(500)
    await one.counts._save()
    assert (one.kept.of(MINUTE), one.kept.of(HOUR)) == ([(15, 4), (1, 1)], [(16, 5)])
    assert one.kept.tidied == 1


async def test_what_a_postgres_that_is_away_has_missed_is_made_up_for() -> None:
    """When requests fail most, it is as a rule away itself."""
    one = Counting()
    one.kept.away = True
    for _ in range(3):
        one.answer(503)
        with pytest.raises(ReadModelUnavailableError):
            await one.counts._save()
        one.now += 60_000
    one.kept.away = False
    await one.counts._save()
    assert (one.kept.of(MINUTE), one.kept.of(HOUR)) == ([(1, 1)] * 3, [(3, 3)])
    assert len(one.counts._spans) == 1, "the hour that goes on"


@pytest.mark.scenario("Postgres goes away", emits=("request_counts_unsaved",))
async def test_counts_that_cannot_be_saved_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_counts, "SAVE_SECONDS", 0.01)
    one = Counting()
    one.kept.away = True
    one.answer(200)
    with capture_logs() as lines:
        await one.counts.start()
        await asyncio.sleep(0.1)
        one.kept.away = False
        await one.counts.stop()
    assert [line["event"] for line in lines] == ["request_counts_unsaved"]
    assert one.kept.of(MINUTE) == [(1, 0)]


async def test_the_last_counts_are_saved_at_the_end() -> None:
    one = Counting()
    await one.counts.start()
    one.answer(200)
    await one.counts.stop()
    await one.counts.stop()
    assert one.kept.of(MINUTE) == [(1, 0)]
