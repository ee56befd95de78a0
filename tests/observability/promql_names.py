"""The metrics that PromQL names, and those that there are."""

from __future__ import annotations

import re

from jobledger.telemetry.catalogue import METRICS, Kind

#: Prometheus's own, and those that its client exports of the process.
BUILT_IN = {"up", "ALERTS", "ALERTS_FOR_STATE", "process_cpu_seconds_total", "process_resident_memory_bytes"}
_KEYWORDS = {"and", "or", "unless", "bool", "on", "ignoring", "group_left", "group_right", "offset"}
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def names_in(expression: str) -> set[str]:
    """The metrics of an expression: its words but for labels, functions, operators and strings."""
    text = re.sub(r"\"[^\"]*\"|'[^']*'", "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\b\d[\w.]*", "", text)  # numbers: 1e3, 0x1f
    words = {match[0] for match in _WORD.finditer(text) if not text[match.end() :].lstrip().startswith("(")}
    return words - _KEYWORDS


def declared() -> set[str]:
    """The series that the catalogue's metrics have."""
    found = set(METRICS) | BUILT_IN
    for name, metric in METRICS.items():
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return found
