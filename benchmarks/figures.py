"""Percentiles, medians of rounds, and how results are printed and written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What the figure must be: at least, or at most.
BARS: dict[str, tuple[str, float]] = {
    "throughput_jobs_per_second": (">=", 700),
    "throughput_late_ratio": (">=", 0.9),
    "mutation_p50_ms": ("<=", 30),
    "mutation_p99_ms": ("<=", 100),
    "submit_to_start_p50_ms": ("<=", 50),
    "submit_to_start_p99_ms": ("<=", 150),
    "due_to_start_p50_ms": ("<=", 50),
    "due_to_start_p99_ms": ("<=", 150),
    "herd_200_last_ms": ("<=", 500),
    "done_to_visible_p99_ms": ("<=", 250),
    "event_to_subscription_p99_ms": ("<=", 150),
    "scheduler_cpu_ms_per_command": ("<=", 0.30),
    "projector_events_per_second": (">=", 8000),
    "takeover_seconds_100k": ("<=", 15),
    "scheduler_bytes_per_waiting_job": ("<=", 4096),
}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(name: str, rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """`<name>_p50_ms`, `_p90_ms` and `_p99_ms`: each the median over the rounds."""
    return {
        f"{name}_p{round(share * 100)}_ms": round(statistics.median(percentile(r, share) for r in rounds), 1)
        for share in (0.5, 0.9, 0.99)
    }


def table(results: dict[str, Any]) -> str:
    """Every figure on a line, with its bar where it has one."""
    lines = [f"{'figure':<44}{'value':>14}  bar"]
    for key, value in results.items():
        shown = f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        bar = BARS.get(key)
        note = ""
        if bar is not None:
            holds = value >= bar[1] if bar[0] == ">=" else value <= bar[1]
            note = f"{bar[0]} {bar[1]:g}  {'holds' if holds else 'FALLS SHORT'}"
        lines.append(f"{key:<44}{shown:>14}  {note}".rstrip())
    return "\n".join(lines)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the flat JSON file that other programs read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
