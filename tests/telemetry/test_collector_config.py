"""The collector's configuration keeps and routes every reason that a span can have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from jobledger.telemetry.sampling import SamplingReason

CONFIG: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "deploy/otel/collector.yaml").read_text())


def test_every_part_of_a_pipeline_is_defined_and_used() -> None:
    connectors = set(CONFIG["connectors"])
    known = {
        "receivers": set(CONFIG["receivers"]) | connectors,
        "processors": set(CONFIG["processors"]),
        "exporters": set(CONFIG["exporters"]) | connectors,
    }
    used: dict[str, set[str]] = {kind: set() for kind in known}
    for pipeline in CONFIG["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            used[kind] |= set(names)
    assert used == known
    assert CONFIG["service"]["extensions"] == list(CONFIG["extensions"])


def test_every_reason_is_kept_and_goes_to_the_tenant_of_its_retention() -> None:
    policies = CONFIG["processors"]["tail_sampling"]["policies"]
    assert all(policy[policy["type"]] for policy in policies)
    kept = [value for policy in policies for value in policy.get("string_attribute", {}).get("values", ())]
    assert sorted(kept) == sorted(SamplingReason)
    assert {policy["string_attribute"]["key"] for policy in policies if "string_attribute" in policy} == {
        "sampling.reason"
    }
    routing = CONFIG["connectors"]["routing"]
    routes = {re.findall(r'== "(\w+)"', one["condition"])[0]: one["pipelines"] for one in routing["table"]}
    assert routes == {"error": ["traces/error"], "slow": ["traces/slow"]}
    assert routing["default_pipelines"] == ["traces/normal"]
    for name in ("error", "slow", "normal"):
        (exporter,) = CONFIG["service"]["pipelines"][f"traces/{name}"]["exporters"]
        assert CONFIG["exporters"][exporter]["headers"] == {"X-Scope-OrgID": name}
