"""The dashboards ask for metrics that exist, draw what the chapter drew, and fit on their page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobledger.telemetry.catalogue import METRICS, Kind

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
#: Written by sloth (deploy/prometheus), not by a process of ours.
RULES = re.compile(r"slo:[a-z_]+:[a-z_0-9]+")
_NAME = re.compile(
    r"(?<![\w$\"])((?:scheduler|worker|queue|api|jobledger|jobs|executions|scheduling|execution|dispatch)_\w+)"
)


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def series_names() -> set[str]:
    """Every name under which a declared metric is exported."""
    names = set(METRICS)
    for metric in METRICS.values():
        if metric.kind is Kind.HISTOGRAM:
            names |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def label_names() -> set[str]:
    return {label for metric in METRICS.values() for label in metric.label_names}


def test_there_is_a_page_for_each_part() -> None:
    pages = ("overview", "scheduler", "workers", "queues", "api", "projections", "slo")
    assert set(DASHBOARDS) == {f"jobledger-{page}" for page in pages}
    assert all(page["uid"] == name for name, page in DASHBOARDS.items())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_queries_ask_for_metrics_that_are_declared(name: str) -> None:
    known = series_names()
    for panel in panels(name):
        for query in queries(panel):
            found = set(_NAME.findall(query)) - label_names()
            assert found <= known, f"{panel['title']}: {found - known}"
            assert found or RULES.search(query) or query.startswith("vector("), f"{panel['title']} asks for nothing"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_say_what_they_show_and_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(name):
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells


def test_the_golden_signals_are_as_drawn() -> None:
    """Three signals with their change, three shares with what they are shares of, a trend of a day."""
    by_title = {panel["title"]: panel for panel in panels("jobledger-overview")}
    for title in ("Latency (P99)", "Traffic", "Error rate"):
        now, change = queries(by_title[title])
        assert "offset 1h" in change and "offset" not in now
        assert change.startswith(f"({now}) - ("), "the change is of the same number"
    assert "vector(10000)" in queries(by_title["Queue depth"])
    assert len(queries(by_title["Workers"])) == len(queries(by_title["Database connections"])) == 2
    assert DASHBOARDS["jobledger-overview"]["time"]["from"] == "now-24h"
