"""The description of a running stack: printed for people, written as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobledger.dev.options import Instance
from jobledger.dev.ports import LOOPBACK


@dataclass(frozen=True, slots=True)
class RunningRole:
    """One role that answers."""

    instance: Instance
    pid: int
    log_path: Path


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Everything a user of the stack needs to know."""

    supervisor_pid: int
    data_dir: Path
    kafka_bootstrap_servers: str
    broker_pid: int
    postgres_dsn: str
    postgres_pid: int
    roles: tuple[RunningRole, ...]
    watchers: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Prometheus and Alertmanager where they run: URL and process id, by name."""

    def as_json(self) -> dict[str, Any]:
        """The document of the ready file."""
        apis = [role.instance for role in self.roles if role.instance.api_port]
        urls = [f"http://{LOOPBACK}:{api.api_port}" for api in apis]
        return {
            "pid": self.supervisor_pid,
            "data_dir": str(self.data_dir),
            "api_url": urls[0] if urls else None,
            "api_urls": urls,
            "graphql_url": f"{urls[0]}/graphql" if urls else None,
            "kafka_bootstrap_servers": self.kafka_bootstrap_servers,
            "postgres_dsn": self.postgres_dsn,
            "broker": {"pid": self.broker_pid},
            "postgres": {"pid": self.postgres_pid},
            "watchers": {name.lower(): {"url": url, "pid": pid} for name, (url, pid) in self.watchers.items()},
            "roles": [_role_as_json(role) for role in self.roles],
        }

    def as_text(self) -> str:
        """The same for a terminal."""
        document = self.as_json()
        lines = [
            f"GraphiQL  {document['graphql_url']}",
            f"Kafka     {self.kafka_bootstrap_servers}",
            f"Postgres  {self.postgres_dsn}",
            f"Data      {self.data_dir}",
            *(f"Logs      {place}/*.jsonl" for place in sorted({role.log_path.parent for role in self.roles})),
            "Traces    jobledger trace JOB",
            *(f"{name:<12}  {url}" for name, (url, _) in self.watchers.items()),
            f"{'Role':<12}  {'Metrics':<29}  Health",
            *(f"{role['instance_id']:<12}  {role['metrics_url']}  {role['health_url']}" for role in document["roles"]),
        ]
        return "\n".join(lines)


def _role_as_json(role: RunningRole) -> dict[str, Any]:
    base = f"http://{LOOPBACK}:{role.instance.health_port}"
    return {
        "instance_id": role.instance.id,
        "role": role.instance.role,
        "pid": role.pid,
        "metrics_url": f"{base}/metrics",
        "health_url": f"{base}/health/ready",
        "log": str(role.log_path),
    }


def write_ready_file(path: Path, stack: RunningStack) -> None:
    """Writes the document so that a reader finds all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(stack.as_json(), indent=2) + "\n")
    partial.replace(path)
