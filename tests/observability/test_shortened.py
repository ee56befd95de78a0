"""What the live stack runs is the product's own, with minutes become seconds and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import shortened
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
ESCALATION: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())


@pytest.mark.parametrize(
    ("written", "run"),
    [
        ("rate(a[5m])", "rate(a[5s])"),
        ("max_over_time(a[1h])", "max_over_time(a[60s])"),
        ("rate(a[30s])", "rate(a[5s])"),
        ("rate(a[5m] offset 1h)", "rate(a[5s] offset 10s)"),
        ("a > 30 and b[x]", "a > 30 and b[x]"),
    ],
)
def test_windows_become_shorter_down_to_a_floor(written: str, run: str) -> None:
    assert shortened.query(written) == run


def _without_times(rule: dict[str, Any]) -> dict[str, Any]:
    text = shortened._OFFSET.sub("offset", shortened._WINDOW.sub("[]", rule["expr"]))
    return {**rule, "expr": text, "for": "for" in rule}


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
def test_rules_differ_in_their_times_alone(file: Path) -> None:
    """And in what the two that are named compare with."""
    document = yaml.safe_load(file.read_text())
    for before, after in zip(document["groups"], shortened.rules(document)["groups"], strict=True):
        for written, run in zip(before["rules"], after["rules"], strict=True):
            if written.get("alert") in shortened.SHORTER:
                bound, shorter = shortened.SHORTER[written["alert"]]
                assert written["expr"].count(bound) == run["expr"].count(shorter) == 1
                run["expr"] = run["expr"].replace(shorter, bound)
            assert _without_times(run) == _without_times(written)
            assert shortened.seconds(run.get("for", "0s")) <= shortened.seconds(written.get("for", "0s"))


def test_every_alert_that_compares_with_something_shorter_is_there() -> None:
    rules = [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    assert {rule.get("alert") for rule in rules} >= set(shortened.SHORTER)


def test_the_escalation_keeps_its_routes_and_waits_0_1_3_and_6_seconds(tools: dict[str, str], tmp_path: Path) -> None:
    run = shortened.escalation(ESCALATION, "http://127.0.0.1:1")
    times = ("group_wait", "group_interval", "repeat_interval")

    def kept(route: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in route.items() if name not in (*times, "routes")}

    routes = run["route"]["routes"]
    assert list(map(kept, routes)) == list(map(kept, ESCALATION["route"]["routes"]))
    assert kept(run["route"]) == kept(ESCALATION["route"])
    assert run["inhibit_rules"] == ESCALATION["inhibit_rules"]
    critical = [route for route in routes if 'severity = "critical"' in route["matchers"]]
    assert [route.get("group_wait", run["route"]["group_wait"]) for route in critical] == ["0s", "1s", "3s", "6s"]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(run))
    done = subprocess.run([tools["amtool"], "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_parse_when_they_are_shorter(tools: dict[str, str], tmp_path: Path) -> None:
    for file in RULES:
        (tmp_path / file.name).write_text(yaml.safe_dump(shortened.rules(yaml.safe_load(file.read_text()))))
    done = subprocess.run(
        [tools["promtool"], "check", "rules", *tmp_path.iterdir()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
