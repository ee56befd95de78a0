"""A span that has ended, as plain values: most are thrown away, so nothing of OpenTelemetry is built for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Attributes = Mapping[str, str | int | float | bool]


class FinishedSpan(NamedTuple):
    """One span. Ids are lower-case hex, `parent_id` '' at the root; times are ns since the epoch.

    `links` are traceparents of what caused it in other traces. `error` is a class or code; '': it went well.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    links: tuple[str, ...] = ()
    error: str = ""
