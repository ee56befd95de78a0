"""Who is told of an alert, by which way and when: Alertmanager's routes, and the policy for PagerDuty."""

from __future__ import annotations

import json
import subprocess
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"
POLICY = ROOT / "deploy/alertmanager/pagerduty-escalation-policy.json"
CONFIGURED: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
ROUTES: list[dict[str, Any]] = CONFIGURED["route"]["routes"]
RECEIVERS: dict[str, dict[str, Any]] = {one["name"]: one for one in CONFIGURED["receivers"]}


def test_the_configuration_is_one(tools: dict[str, str]) -> None:
    done = subprocess.run([tools["amtool"], "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=SchedulerDown severity=critical", "slack-critical,page-primary,page-secondary,page-manager"),
        ("alertname=QueueBacklogGrowing severity=warning queue_name=mail", "slack-warning,page-primary"),
        ("alertname=Anything severity=info", "slack-info"),
        ("alertname=WithoutSeverity", "slack-info"),
        ("alertname=IncidentDeclared severity=critical cause=SchedulerDown", "incident"),
    ],
)
def test_an_alert_goes_to_its_steps_and_to_no_other(tools: dict[str, str], labels: str, receivers: str) -> None:
    command = [tools["amtool"], "config", "routes", "test", f"--config.file={CONFIG}"]
    done = subprocess.run(
        [*command, f"--verify.receivers={receivers}", *labels.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wrong_receivers_would_be_seen(tools: dict[str, str]) -> None:
    """That amtool fails is what the test above leans on."""
    command = [tools["amtool"], "config", "routes", "test", f"--config.file={CONFIG}"]
    done = subprocess.run(
        [*command, "--verify.receivers=slack-info", "severity=critical"], capture_output=True, check=False
    )
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("severity", "steps"),
    [
        ("critical", {"slack-critical": 0, "page-primary": 5, "page-secondary": 15, "page-manager": 30}),
        ("warning", {"slack-warning": 0, "page-primary": 30}),
        ("info", {"slack-info": 0}),
    ],
)
def test_each_step_waits_as_long_as_the_specification_says(severity: str, steps: dict[str, int]) -> None:
    """In minutes from the time that the alert fires."""
    wanted = f'severity = "{severity}"'
    waits = {route["receiver"]: route.get("group_wait", "0s") for route in ROUTES if wanted in route["matchers"]}
    assert {name: int(wait.rstrip("ms")) for name, wait in waits.items()} == steps
    assert all(wait.endswith("m") or wait == "0s" for wait in waits.values())
    assert CONFIGURED["route"]["group_wait"] == "0s"


def test_slack_channels_are_those_of_the_specification() -> None:
    for severity in ("critical", "warning", "info"):
        (slack,) = RECEIVERS[f"slack-{severity}"]["slack_configs"]
        assert slack["channel"] == f"#alerts-{severity}"
        assert slack["send_resolved"]


def test_what_is_resolved_is_told_everywhere() -> None:
    ways = [
        way
        for one in RECEIVERS.values()
        for kind in ("slack_configs", "pagerduty_configs")
        for way in one.get(kind, [])
    ]
    assert len(ways) == 8
    assert all(way["send_resolved"] for way in ways)


def test_secrets_are_read_from_files_only() -> None:
    keys = {way["routing_key_file"] for one in RECEIVERS.values() for way in one.get("pagerduty_configs", [])}
    assert keys == {
        f"/etc/alertmanager/secrets/pagerduty-{who}" for who in ("primary", "secondary", "manager", "incident")
    }
    assert "slack_api_url_file" in CONFIGURED["global"]
    for secret in ("slack_api_url:", "routing_key:", "service_key:", "password:", "token:"):
        assert secret not in CONFIG.read_text()


def test_pagerdutys_own_policy_has_the_same_times() -> None:
    """Its delays count from the first page, which is sent after 5 minutes."""
    rules = json.loads(POLICY.read_text())["escalation_policy"]["escalation_rules"]
    delays = [rule["escalation_delay_in_minutes"] for rule in rules]
    assert [5 + minutes for minutes in accumulate(delays[:-1], initial=0)] == [5, 15, 30]
    assert [target["id"].split("_")[0] for rule in rules for target in rule["targets"]] == [
        "PRIMARY",
        "SECONDARY",
        "MANAGER",
    ]


def test_an_hour_is_an_incident(alerts: list[dict[str, Any]]) -> None:
    (incident,) = [rule for rule in alerts if rule["alert"] == "IncidentDeclared"]
    assert incident["for"] == "60m"
