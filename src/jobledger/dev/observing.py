"""`jobledger dev --observe`: Prometheus and Alertmanager beside the roles, with the rules of this release."""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from pathlib import Path

from jobledger.dev.options import Layout
from jobledger.dev.ports import LOOPBACK
from jobledger.dev.watchers import Watcher, alertmanager, installed, prometheus

INSTALL_LINE = "apt-get install prometheus prometheus-alertmanager"
_SCRAPE_INTERVAL = "5s"


def make_watchers(places: Layout, folder: Path) -> dict[str, Watcher]:
    """Those of the two that are installed, by their names, not started; what they need is written to `folder`."""
    programs = {name: found for name in ("prometheus", "alertmanager") if (found := installed(name))}
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("jobledger") / "deploy") as deploy:
        shutil.copytree(deploy / "prometheus" / "rules", folder / "rules", dirs_exist_ok=True)
        routes = (deploy / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    (folder / "alertmanager.yml").write_text(routes_without_ways(routes), encoding="utf-8")
    (folder / "prometheus.yml").write_text(json.dumps(_scraping(places), indent=2), encoding="utf-8")  # YAML holds JSON
    watchers = {}
    if program := programs.get("prometheus"):
        config, data = folder / "prometheus.yml", folder / "prometheus"
        watchers["Prometheus"] = prometheus(program, config, data, places.prometheus)
    if program := programs.get("alertmanager"):
        config, data = folder / "alertmanager.yml", folder / "alertmanager"
        watchers["Alertmanager"] = alertmanager(program, config, data, places.alertmanager)
    return watchers


def routes_without_ways(text: str) -> str:
    """Alertmanager's configuration with the same routes, whose receivers have a name and tell nobody."""
    head, _, receivers = text.partition("\nreceivers:\n")
    head = re.sub(r"^global:\n(?: +.*\n)+", "", head, flags=re.MULTILINE)
    names = re.findall(r"^  - name: (\S+)$", receivers, re.MULTILINE)
    return "\n".join([head, "receivers:", *(f"  - name: {name}" for name in names), ""])


def _scraping(places: Layout) -> dict[str, object]:
    targets: dict[str, list[str]] = {}
    for instance in places.instances:
        targets.setdefault(instance.role, []).append(f"{LOOPBACK}:{instance.health_port}")
    return {
        "global": {"scrape_interval": _SCRAPE_INTERVAL, "evaluation_interval": _SCRAPE_INTERVAL},
        "rule_files": ["rules/*.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{places.alertmanager}"]}]}],
        },
        "scrape_configs": [
            {"job_name": role, "static_configs": [{"targets": found}]} for role, found in targets.items()
        ],
    }
