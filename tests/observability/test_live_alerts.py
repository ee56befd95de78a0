"""The alerts, for real: each cause is made, the alert fires, its receiver is told, the cause ends, it is told again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shortened
from incidents import Incidents
from live_stack import LiveStack

from jobledger.dev.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]
PAGES = ("slack-critical", "page-primary", "page-secondary", "page-manager")
DASHBOARDS = Path(__file__).parents[2] / "deploy/grafana/dashboards"
#: Panels whose cause is not there, by their title, and what would be one.
EMPTY = {"api: Over the rate limit": "an api with a limit, and somebody beyond it"}


@pytest.fixture(scope="module")
def incidents(
    tools: dict[str, str],
    module_kafka: Any,
    session_postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Incidents]:
    """What has happened to one small cell; it still runs."""
    session_postgres.start()
    stack = LiveStack(*module_kafka, session_postgres.dsn, tmp_path_factory.mktemp("live"))
    try:
        stack.start()
        found = Incidents(stack)
        found.happen()
        yield found
    finally:
        stack.stop()


@pytest.mark.parametrize(
    ("alert", "receiver", "waits", "labels"),
    [
        ("SchedulerDown", "slack-critical", False, {"job": "scheduler"}),
        ("SchedulerLeaderUnavailable", "slack-critical", True, {}),
        ("HighJobDispatchLatency", "slack-warning", True, {}),
        ("JobExecutionFailureRate", "slack-critical", True, {}),
        ("QueueBacklogGrowing", "slack-warning", True, {"queue_name": "orders"}),
        ("MissedScheduledJobs", "slack-critical", True, {}),
        ("WorkerPoolLow", "slack-critical", True, {"pool": "orders"}),
        ("DatabaseConnectionExhausted", "slack-warning", True, {}),
    ],
)
def test_an_alert_waits_fires_is_told_and_is_told_to_be_over(
    incidents: Incidents, alert: str, receiver: str, waits: bool, labels: dict[str, str]
) -> None:
    """`waits`: it has a `for:`, so that it is pending before."""
    stack = incidents.stack
    fired = stack.seconds_in(alert, "firing", **labels)
    pending = stack.seconds_in(alert, "pending", **labels)
    assert fired and bool(pending) is waits
    assert not waits or pending[0] < fired[0]
    told = stack.webhooks.first(alert, receiver, "firing", **labels)
    over = stack.webhooks.first(alert, receiver, "resolved", **labels)
    assert told is not None and over is not None and told < over
    assert {one.receiver for one in stack.webhooks.told if one.alert == alert} <= {receiver, *PAGES[1:]}


def test_a_critical_alert_that_nobody_silences_takes_each_step_in_its_time(incidents: Incidents) -> None:
    """0, 1, 3 and 6 seconds for 0, 5, 15 and 30 minutes."""
    at = [incidents.stack.webhooks.first("JobExecutionFailureRate", receiver) for receiver in PAGES]
    assert None not in at
    after = [one - at[0] for one in at if one is not None and at[0] is not None]
    assert after == sorted(after)
    assert all(wait - 0.5 < seconds for wait, seconds in zip((0, 1, 3, 6), after, strict=True)), after


def test_one_that_is_silenced_after_the_first_step_takes_no_other(incidents: Incidents) -> None:
    """Though it goes on for longer than all steps take."""
    stack = incidents.stack
    fired = stack.seconds_in("PartitionNotServed", "firing")
    assert fired[-1] - fired[0] > 8
    assert {one.receiver for one in stack.webhooks.told if one.alert == "PartitionNotServed"} == {"slack-critical"}


def test_without_any_leader_one_page_says_it_all(incidents: Incidents) -> None:
    assert "MissedScheduledJobs" in incidents.inhibited


def test_the_runbook_of_a_backlog_shows_it_and_ends_it(incidents: Incidents) -> None:
    """The page was followed line by line, its queries to verify included; here is what it showed."""
    before, after = (incidents.said[f'{section}: jobledger queues show "$QUEUE"'] for section in ("Look", "Verify"))
    assert re.search(r"^waiting +150$", before, re.MULTILINE)
    assert "No worker serves it" in before
    assert re.search(r"^waiting +0$", after, re.MULTILINE)
    assert "worker-2" in after


def test_the_runbook_of_no_leader_shows_it_and_ends_it(incidents: Incidents) -> None:
    assert "Nobody serves partitions 0, 1." in incidents.said["Look: jobledger schedulers list"]
    assert "scheduler-1" in incidents.said["Verify: jobledger schedulers list"]
    assert re.search(r"^status +SUCCEEDED$", incidents.said["Verify: jobledger submit echo --wait"], re.MULTILINE)


def panels() -> dict[str, list[str]]:
    """The queries of each panel, by dashboard and title; Grafana's window is that of five scrapes."""
    found = {}
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            queries = [target["expr"].replace("$__rate_interval", "5s") for target in panel.get("targets", [])]
            found[f"{file.stem.removeprefix('jobledger-')}: {panel['title']}"] = queries
    return found


def test_every_panel_of_every_dashboard_has_something_to_show(incidents: Incidents) -> None:
    empty = {
        title
        for title, queries in panels().items()
        for query in queries
        if not incidents.stack.has_data(incidents.stack.series(shortened.query(query)))
    }
    assert empty == set(EMPTY)


def test_every_recording_rule_has_recorded_something(incidents: Incidents, rules: list[dict[str, Any]]) -> None:
    empty = []
    for rule in rules:
        if "record" in rule:
            labels = ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
            recorded = incidents.stack.series(f"{rule['record']}{{{labels}}}")
            if not incidents.stack.has_data(recorded):
                empty.append((rule["record"], labels))
    assert empty == []
