"""The rules parse, do what they say at their edges, and are complete; those of the specification do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_names import declared, names_in

from jobledger.domain.service_levels import OBJECTIVES

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
CASES = sorted((Path(__file__).parent / "rules").rglob("*.yml"))
ORIGINALS = Path(__file__).parent / "rules/original"
TESTS = [file for file in CASES if file.name != "chapter.yml"]

#: By name the severity and what the specification's table calls it.
OF_THE_SPECIFICATION = {
    "SchedulerDown": ("critical", "SchedulerDown"),
    "SchedulerLeaderUnavailable": ("critical", None),
    "HighJobDispatchLatency": ("warning", "HighDispatchLatency"),
    "JobExecutionFailureRate": ("critical", "HighFailureRate"),
    "QueueBacklogGrowing": ("warning", "QueueBacklog"),
    "MissedScheduledJobs": ("critical", "MissedJobs"),
    "WorkerPoolLow": ("critical", "WorkerPoolLow"),
    "DatabaseConnectionExhausted": ("warning", "DatabaseConnectionExhausted"),
}


def test_the_rules_parse(tools: dict[str, str]) -> None:
    done = subprocess.run([tools["promtool"], "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(RULES) >= 5


def test_the_configuration_of_prometheus_is_one_and_finds_the_rules(tools: dict[str, str]) -> None:
    config = ROOT / "deploy/prometheus/prometheus.yml"
    done = subprocess.run([tools["promtool"], "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(file.name in done.stdout for file in RULES)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_rules_fire_and_do_not_fire_at_their_edges(tools: dict[str, str], file: Path) -> None:
    done = subprocess.run([tools["promtool"], "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alerts: list[dict[str, Any]]) -> None:
    fires, rests = set(), set()
    for file in TESTS:
        if file.parent == ORIGINALS:
            continue
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case.get("exp_alerts") else rests).add(case["alertname"])
    names = {rule["alert"] for rule in alerts}
    assert names == fires == rests


def test_the_specifications_own_rules_are_shown_to_fail_where_ours_differ() -> None:
    """Every corrected rule has its original, word for word, and a case of what it does wrong."""
    originals = {
        rule["alert"] for rule in yaml.safe_load((ORIGINALS / "chapter.yml").read_text())["groups"][0]["rules"]
    }
    shown = {
        case["alertname"]
        for test in yaml.safe_load((ORIGINALS / "failures.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    }
    assert shown == originals
    assert originals == {
        "SchedulerDown",
        "SchedulerLeaderUnavailable",
        "JobExecutionFailureRate",
        "QueueBacklogGrowing",
        "MissedScheduledJobs",
    }


def test_the_eight_alerts_of_the_specification_are_there(alerts: list[dict[str, Any]]) -> None:
    """Once each, with their severity and the other name that the specification's table has for them."""
    found = {
        rule["alert"]: (rule["labels"]["severity"], rule["annotations"].get("also_called"))
        for rule in alerts
        if "action" in rule["annotations"]
    }
    assert found == OF_THE_SPECIFICATION
    names = [rule["alert"] for rule in alerts]
    assert all(names.count(name) == 1 for name in OF_THE_SPECIFICATION)
    assert not {other for _, other in OF_THE_SPECIFICATION.values()} - set(OF_THE_SPECIFICATION) & set(names)


def test_every_alert_says_how_bad_what_and_where_to_read_on(alerts: list[dict[str, Any]]) -> None:
    for rule in alerts:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        notes = rule["annotations"]
        assert notes["summary"] and notes["description"], rule["alert"]
        assert notes["runbook_url"] == f"https://jobledger.io/runbooks/{rule['alert']}.md"


def test_recording_rules_are_named_by_level_metric_and_operations(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        if "record" in rule and not rule["record"].startswith("sloth_"):
            assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"]), rule["record"]


def test_rules_name_declared_metrics_only(rules: list[dict[str, Any]]) -> None:
    """The catalogue's, those that rules record, and Prometheus's own."""
    known = declared() | {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        assert names_in(rule["expr"]) - known == set(), rule.get("alert", rule.get("record"))


def test_the_names_in_an_expression_are_found() -> None:
    """Else the test above would see nothing."""
    expression = """
      histogram_quantile(0.99, sum by (scheduler_id, le) (rate(made_up_seconds_bucket{a="b"}[5m]))) > 1e3
      and on (job, instance) up or label_replace(max(other:of:it) / ignoring (x) third, "known_by", "a", "", "")
    """
    assert names_in(expression) == {"made_up_seconds_bucket", "up", "other:of:it", "third"}


def test_the_page_of_the_alerts_is_that_of_the_rules() -> None:
    """`scripts/alerts-page` renews it."""
    done = subprocess.run([sys.executable, ROOT / "scripts/alerts-page", "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_objectives_are_those_of_the_domain() -> None:
    """In name, share and meaning, so that Prometheus and the api speak of the same."""
    spec = yaml.safe_load((ROOT / "deploy/prometheus/slo/jobledger.yml").read_text())
    assert spec["version"] == "prometheus/v1"
    found = {slo["name"]: (slo["objective"], slo["description"]) for slo in spec["slos"]}
    assert found == {one.name: (pytest.approx(one.target * 100), one.meaning) for one in OBJECTIVES}


def test_the_rules_of_the_objectives_were_made_from_their_spec(rules: list[dict[str, Any]]) -> None:
    """`scripts/slo-rules` renews them, with Go; here the two are compared by what the spec says."""
    spec = yaml.safe_load((ROOT / "deploy/prometheus/slo/jobledger.yml").read_text())
    for slo in spec["slos"]:
        made = [rule for rule in rules if rule.get("labels", {}).get("sloth_slo") == slo["name"]]
        (objective,) = [
            float(r["expr"].removeprefix("vector(").rstrip(")"))
            for r in made
            if r.get("record") == "slo:objective:ratio"
        ]
        assert objective == pytest.approx(slo["objective"] / 100)
        for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"):
            (ratio,) = [rule["expr"] for rule in made if rule.get("record") == f"slo:sli_error:ratio_rate{window}"]
            for query in slo["sli"]["events"].values():
                assert query.replace("{{.window}}", window) in ratio
        alerts = [rule for rule in rules if rule.get("alert") == slo["alerting"]["name"]]
        assert [rule["labels"]["severity"] for rule in alerts] == ["critical", "warning"]
        assert all(slo["alerting"]["annotations"].items() <= rule["annotations"].items() for rule in alerts)
