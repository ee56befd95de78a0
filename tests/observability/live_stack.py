"""A small cell with a Prometheus and an Alertmanager that watch it, and a receiver for what they tell."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import httpx
import psycopg
import runbook_pages
import shortened
import yaml
from chaos_stack import Role
from role_forks import RoleForks
from webhooks import Told, Webhooks

import jobledger.telemetry.logs  # noqa: F401 - takes standard output as it is when it is first imported
from jobledger.cli.program import run
from jobledger.dev.child import GuardedChild
from jobledger.dev.ports import free_port
from jobledger.dev.watchers import alertmanager, installed, prometheus

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
T = TypeVar("T")
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
#: A scheduler that is killed keeps its partitions for as long: time to see what becomes of them.
SESSION_SECONDS = 45.0
ROLES = ("scheduler-1", "scheduler-2", "projector-1", "api-1", "worker-1", "worker-2")
#: The worker that serves the queue `orders`, alone in its pool.
MAIL = {"JOBLEDGER_WORKER_QUEUES": "orders", "JOBLEDGER_WORKER_POOL": "orders"}


def wait_for(what: str, ask: Callable[[], T], seconds: float = 30.0) -> T:
    """The first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return answer


class LiveStack:
    """The roles, and who watches them; `on_told` hears of each notification before its sender has an answer."""

    def __init__(self, bootstrap: str, cell: str, dsn: str, folder: Path) -> None:
        self.begun = time.time()
        self._pipe = os.pipe()
        api_port = free_port()
        self.api_url = f"http://127.0.0.1:{api_port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")},
            "PYTHONPATH": str(Path(__file__).parent),
            "JOBLEDGER_CELL": cell,
            "JOBLEDGER_PARTITIONS": str(PARTITIONS),
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_POSTGRES_DSN": dsn,
            "JOBLEDGER_API_PORT": str(api_port),
            "JOBLEDGER_API_URL": self.api_url,
            "JOBLEDGER_HANDLERS": "live_handlers",
            "JOBLEDGER_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            "JOBLEDGER_WORKER_SLOTS": "200",  # a wait for a free slot is no latency of a dispatch
            "JOBLEDGER_LEASE_SECONDS": "3",
            "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "0.5",
            "JOBLEDGER_LOG_LEVEL": "WARN",
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
            "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        }
        self.folder = folder
        self.dsn = dsn
        self.quiet: set[str] = set()
        self._typed: list[GuardedChild] = []
        self.webhooks = Webhooks(self._told)
        self._forks = RoleForks(self.environment, self._pipe[0])
        self.roles = {
            name: Role(
                name, {**self.environment, **(MAIL if name == "worker-2" else {})}, folder, self._pipe[0], self._forks
            )
            for name in ROLES
        }
        self._http = httpx.Client(timeout=15)
        self._watchers = self._make_watchers()
        self.prometheus, self.alertmanager = self._watchers

    def _make_watchers(self) -> list[Any]:
        programs = [installed("prometheus"), installed("alertmanager")]
        assert all(programs), "scripts/prometheus-tools was to fetch them"
        ports = [free_port(), free_port()]
        deploy = ROOT / "deploy"
        for file in (deploy / "prometheus/rules").glob("*.yml"):
            self._write(f"rules-{file.name}", shortened.rules(yaml.safe_load(file.read_text())))
        routes = yaml.safe_load((deploy / "alertmanager/alertmanager.yml").read_text())
        told = self._write("alertmanager.yml", shortened.escalation(routes, self.webhooks.url))
        for place in ("amtool/config.yml", "prometheus/amtool.yml"):  # its makers' place, and Debian's
            file = self.folder / ".config" / place
            file.parent.mkdir(parents=True)
            file.write_text(f"alertmanager.url: http://127.0.0.1:{ports[1]}\n")
        jobs = {name.rpartition("-")[0] for name in ROLES}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(self.folder / "rules-*.yml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": self._targets(job)}]} for job in sorted(jobs)
            ],
        }
        watched = self._write("prometheus.yml", config)
        return [
            prometheus(str(programs[0]), watched, self.folder / "prometheus", ports[0]),
            alertmanager(str(programs[1]), told, self.folder / "alertmanager", ports[1]),
        ]

    def _targets(self, job: str) -> list[str]:
        return [f"127.0.0.1:{role.port}" for name, role in self.roles.items() if name.startswith(job)]

    def _write(self, name: str, document: Any) -> Path:
        (self.folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
        return self.folder / name

    def __getitem__(self, name: str) -> Role:
        return self.roles[name]

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Everything: the cell first, so that its start is no alert."""
        for role in self.roles.values():
            role.start()
        for role in self.roles.values():
            wait_for(f"{role.name} is ready; {role.log_tail()}", partial(getattr, role, "ready"), 90)
        schedulers = [self["scheduler-1"], self["scheduler-2"]]
        self.graphql('mutation { createQueue(input: {name: "orders"}) { __typename } }')
        wait_for("each scheduler serves one", lambda: all(len(role.served()) == 1 for role in schedulers), 60)
        for watcher in self._watchers:
            watcher.start()
        targets = len(self.roles)
        wait_for("all are scraped", lambda: len(self.now("up == 1")) == targets)
        # Before the first scrape there is no leader, and what is active at the start is never seen pending.
        wait_for("the start is no alert any more", lambda: not self.now('ALERTS{alertname=~"Scheduler.*"}'))
        self.begun = time.time()

    def stop(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
        for child in self._typed:
            child.stop()
        for role in self.roles.values():
            role.stop()
        for role in self.roles.values():
            role.end()
        self._forks.close()
        for end in self._pipe:
            os.close(end)
        self.webhooks.close()
        self._http.close()

    # -- what a person does -------------------------------------------------------------------------------------------

    def graphql(self, query: str, **variables: Any) -> Any:
        answer = self._http.post(f"{self.api_url}/graphql", json={"query": query, "variables": variables}).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    def submit(self, jobs: list[dict[str, Any]]) -> None:
        """All in one request; each must be accepted."""
        query = (
            "mutation($jobs: [SubmitJobInput!]!) { submitJobs(input: $jobs) {"
            " __typename ... on SubmitJobsSuccess { results { __typename } } } }"
        )
        results = self.graphql(query, jobs=jobs)["submitJobs"]["results"]
        assert {one["__typename"] for one in results} == {"SubmitJobSuccess"}, results[:3]

    def type(self, line: str, *, may_warn: bool = False, **variables: str) -> str:
        """A command line of a page as it stands, which has to succeed; gives what it printed.

        `may_warn`: with status 1 it says what is wrong, which is why it is asked.
        `jobledger` runs in this process: what that saves is the start of a Python for each line.
        """
        environment = {**self.environment, "HOME": str(self.folder), "USER": "somebody", **variables}
        with patch.dict(os.environ, environment, clear=True):
            words = [os.path.expandvars(word) for word in shlex.split(line)]
        if words[0] != "jobledger":
            done = subprocess.run(
                words, env=environment | PATH, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, (line, done.stderr)
            return done.stdout
        out, err = io.StringIO(), io.TextIOWrapper(io.BytesIO(), write_through=True)
        with patch.dict(os.environ, environment, clear=True), redirect_stdout(out), redirect_stderr(err):
            status = run(words[1:])
        assert status == 0 or (may_warn and status == 1), (line, out.getvalue(), err.buffer.getvalue().decode())
        return out.getvalue() + err.buffer.getvalue().decode()

    def leave_running(self, line: str, name: str, **variables: str) -> None:
        """A command line of a page that starts a role: on the port of the one that it takes the place of."""
        environment = {
            **self.environment,
            **PATH,
            "JOBLEDGER_INSTANCE_ID": name,
            "JOBLEDGER_HEALTH_PORT": str(self[name].port),
            **variables,
        }
        child = GuardedChild(["bash", "-c", line], self.folder / f"{name}-again.log", env=environment)
        self._typed.append(child)
        wait_for(f"{name} is ready; {child.log_tail()}", lambda: self[name].get("/health/ready")[0] == 200, 60)

    def silence(self, alert: str) -> None:
        """As the runbook of each alert says it."""
        (line,) = runbook_pages.lines(alert, "bash", "Escalate")
        self.type(line)

    def inhibited(self) -> set[str]:
        """The alerts that Alertmanager tells nobody of, because another one says it all."""
        found = self._http.get(f"{self.alertmanager.url}/api/v2/alerts").json()
        return {one["labels"]["alertname"] for one in found if one["status"]["inhibitedBy"]}

    def _told(self, told: Told) -> None:
        if told.alert in self.quiet and told.receiver == "slack-critical":
            self.quiet.discard(told.alert)
            self.silence(told.alert)

    @contextlib.contextmanager
    def many_connections(self) -> Iterator[None]:
        """Connections to Postgres up to 92 % of what it takes."""
        with contextlib.ExitStack() as opened, psycopg.connect(self.dsn) as asking:
            row = asking.execute("SELECT current_setting('max_connections')::int").fetchone()
            assert row is not None
            used = asking.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ).fetchone()
            assert used is not None
            for _ in range(round(0.93 * row[0]) - used[0]):
                opened.enter_context(contextlib.closing(psycopg.connect(self.dsn)))
            yield

    # -- what Prometheus knows ----------------------------------------------------------------------------------------

    def series(self, query: str) -> list[dict[str, Any]]:
        """The series of a query over the whole life of the stack, by the second; raises AssertionError on an error."""
        parameters = {"query": query, "start": self.begun, "end": time.time() + 1, "step": "1"}
        answer = self._http.get(f"{self.prometheus.url}/api/v1/query_range", params=parameters).json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    @staticmethod
    def has_data(found: list[dict[str, Any]]) -> bool:
        """Whether any series has a number."""
        return any(value != "NaN" for one in found for _, value in one["values"])

    def now(self, query: str) -> list[dict[str, Any]]:
        """What a query gives now."""
        answer = self._http.get(f"{self.prometheus.url}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def seconds_in(self, alert: str, state: str, **labels: str) -> list[float]:
        """When an alert was pending or firing, in Unix seconds: every evaluation, as some last less than a second."""
        wanted = ",".join(
            f'{name}="{value}"' for name, value in {"alertname": alert, "alertstate": state, **labels}.items()
        )
        life = math.ceil(time.time() - self.begun) + 1
        found = {float(at) for one in self.now(f"ALERTS{{{wanted}}}[{life}s]") for at, _ in one["values"]}
        return sorted(at for at in found if at >= self.begun)


@contextlib.contextmanager
def stalled(role: Role, seconds: float) -> Iterator[None]:
    """A process that does nothing for a while."""
    role.send(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        role.send(signal.SIGCONT)


def shown(stack: LiveStack) -> str:
    """What Prometheus takes for true now, for the text of a failure."""
    return json.dumps([one["metric"] for one in stack.now("ALERTS")])
