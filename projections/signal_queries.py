"""The queries of service levels and golden signals: of the whole cell, all tenants together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, LiteralString, TypeVar

import msgspec

from jobledger.domain.service_levels import ERRORS, Completion, Due, EndedAs
from jobledger.projections.signals import COMPLETED, DUE, ENDED, LATENCY

Params = Mapping[str, Any]
T = TypeVar("T")
_COUNTERS = (*DUE.values(), *COMPLETED.values(), *ENDED.values(), *LATENCY)
#: Names of columns, all of them ours.
_SUMS: LiteralString = ", ".join(f"sum({column})::bigint AS {column}" for column in _COUNTERS)


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many count, how many of them were bad, and how many were left out."""

    total: int = 0
    bad: int = 0
    excluded: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            total=self.total + other.total, bad=self.bad + other.bad, excluded=self.excluded + other.excluded
        )


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted in a span of time, over all partitions."""

    start_ms: int
    due: Counted
    completion: Counted
    ends: Counted
    #: First hand-outs by their time from due, by the bounds of `signals.LATENCY_BOUNDS_SECONDS`.
    latency: tuple[int, ...]


class SignalQueries(ABC):
    """Questions about spans of time and about now."""

    @abstractmethod
    async def _fetch(self, statement: LiteralString, params: Params) -> list[dict[str, Any]]:
        """Run a statement; rows as dicts."""

    async def signals(self, span_seconds: int, from_ms: int) -> list[Signals]:
        """The spans of a length that begin from a time on, in order; those without any event are not there."""
        found = await self._fetch(
            f"SELECT start_ms, {_SUMS} FROM job_signals WHERE span_seconds = %(seconds)s AND start_ms >= %(from)s"
            " GROUP BY start_ms ORDER BY start_ms",
            {"seconds": span_seconds, "from": from_ms},
        )
        return [_signals(values) for values in found]

    async def api_requests(self, span_seconds: int, from_ms: int) -> list[tuple[int, Counted]]:
        """Requests to all apis in the spans that begin from a time on, with their starts."""
        found = await self._fetch(
            "SELECT start_ms, sum(total)::bigint AS total, sum(failed)::bigint AS bad FROM api_requests"
            " WHERE span_seconds = %(seconds)s AND start_ms >= %(from)s GROUP BY start_ms ORDER BY start_ms",
            {"seconds": span_seconds, "from": from_ms},
        )
        return [(one["start_ms"], Counted(total=one["total"], bad=one["bad"])) for one in found]

    async def queue_depth(self) -> int:
        """Tasks that wait in the queues of all tenants."""
        found = await self._fetch("SELECT coalesce(sum(waiting), 0)::bigint AS depth FROM queues", {})
        return int(found[0]["depth"])


def _signals(values: Mapping[str, int]) -> Signals:
    failed = sum(values[ENDED[status]] for status in ERRORS)
    return Signals(
        start_ms=values["start_ms"],
        due=_counted(values, DUE, Due.ON_TIME, Due.LATE, Due.EXCLUDED),
        completion=_counted(values, COMPLETED, Completion.WITHIN, Completion.OVER, Completion.EXCLUDED),
        ends=Counted(
            total=failed + values[ENDED[EndedAs.SUCCESS]], bad=failed, excluded=values[ENDED[EndedAs.CANCELLED]]
        ),
        latency=tuple(values[column] for column in LATENCY),
    )


def _counted(values: Mapping[str, int], columns: Mapping[T, str], good: T, bad: T, excluded: T) -> Counted:
    return Counted(
        total=values[columns[good]] + values[columns[bad]], bad=values[columns[bad]], excluded=values[columns[excluded]]
    )
