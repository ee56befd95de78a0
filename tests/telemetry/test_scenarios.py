"""Each row of the tables has a scenario, and each scenario tests that let it happen and see what it emits.

Whether a marked test has seen its rows is checked when it runs (`scenario_marks`); here, that none was forgotten.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobledger.telemetry.catalogue import DECLARED, LOG_EVENTS, METRICS, SPANS
from jobledger.telemetry.scenarios import SCENARIOS

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SOURCES = ("client", "domain", "eventlog", "graphql", "processors", "projections", "replay", "telemetry", "workers")


class Marked(NamedTuple):
    """One mark of a test."""

    place: str
    scenario: str
    emits: tuple[str, ...]


def _marks() -> Iterator[Marked]:
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text()
        if "mark.scenario" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.scenario":
                (scenario,) = map(ast.literal_eval, node.args)
                given = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
                assert given.keys() <= {"emits"}
                yield Marked(f"{file.relative_to(ROOT)}:{node.lineno}", scenario, given.get("emits", ()))


MARKS = tuple(_marks())


def _rows(scenario: str) -> set[str]:
    return {name for name, row in DECLARED.items() if row.scenario == scenario}


def test_metrics_events_and_spans_have_different_names() -> None:
    assert len(DECLARED) == len(METRICS) + len(LOG_EVENTS) + len(SPANS)


def test_every_row_names_a_scenario_and_every_scenario_has_rows() -> None:
    assert {row.scenario for row in DECLARED.values()} == SCENARIOS.keys()


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.place)
def test_a_mark_names_a_scenario_and_rows_of_it(mark: Marked) -> None:
    assert mark.scenario in SCENARIOS
    assert set(mark.emits) <= _rows(mark.scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_row_of_a_scenario_is_seen_in_a_test_of_it(scenario: str) -> None:
    marks = [mark for mark in MARKS if mark.scenario == scenario]
    seen = {name for mark in marks for name in mark.emits or _rows(scenario)}
    assert seen == _rows(scenario)


def test_metrics_are_made_in_one_place() -> None:
    """So that none can be exported that the table doesn't declare."""
    folders = [
        *(ROOT / name for name in SOURCES),
        *(ROOT / "src/jobledger" / name for name in ("bootstrap", "cli", "dev")),
    ]
    users = {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "prometheus_client" in [getattr(node, "module", None), *(one.name for one in node.names)]
    }
    assert users == {"telemetry/metrics.py"}
