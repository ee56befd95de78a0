"""The tools of Prometheus and Alertmanager, and the rules as they are shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
for folder in (Path(__file__).parent, Path(__file__).parent.parent / "chaos"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """Where promtool and amtool are, by name; fetched when they are missing."""
    done = subprocess.run([ROOT / "scripts/prometheus-tools"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {Path(line).name: line for line in done.stdout.splitlines()}


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule."""
    files = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The alerting rules."""
    return [rule for rule in rules if "alert" in rule]
