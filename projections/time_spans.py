"""Spans of time in which is counted: minutes, kept for a day, and hours, kept for 31 days."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: How long spans of each length are kept, in seconds.
KEPT_SECONDS = {MINUTE: DAY, HOUR: 31 * DAY}


def span_start_ms(at_ms: int, span_seconds: int) -> int:
    """When the span began in which a time lies."""
    return at_ms - at_ms % (span_seconds * 1000)
