"""Lengths of time as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta

MAX_SECONDS = 10 * 366 * 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def seconds_of(value: str | float | timedelta) -> float:
    """Seconds of a number, a timedelta, or text such as "30s", "250ms", "1h30m", "2d".

    Raises ValueError, with a sentence, for anything else and for what isn't above 0 and at most ten years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        text = value.strip().replace(" ", "")
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"'{value}' is not a length of time; write it like 30s, 5m, 1h30m or 2d.")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"{value!r} is not a length of time; give seconds, a timedelta, or text like 30s.")
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"'{value}' is not a length of time above 0 and at most ten years.")
    return seconds
