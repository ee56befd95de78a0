"""The stack under test: `jobledger dev` as a child process, and what can be read from outside of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import psycopg

HERE = Path(__file__).parent
READY_SECONDS = 240.0


def free_port_base() -> int:
    """A base whose next fifty ports are free now."""
    for base in range(21_080, 60_000, 100):
        if all(_free(base + offset) for offset in range(50)):
            return base
    raise RuntimeError("No fifty free ports in a row.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class BenchStack:
    """All roles, broker and Postgres on this machine, 4 partitions, two workers with 256 slots each."""

    def __init__(self, workers: int = 2, slots: int = 256) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="jobledger-bench-", ignore_cleanup_errors=True)
        self._ready_file = Path(self._directory.name) / "ready.json"
        self._workers, self._slots = workers, slots
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=60)

    def __enter__(self) -> BenchStack:
        command = [sys.executable, "-m", "jobledger.cli", "dev", "--port-base", str(free_port_base())]
        command += ["--data-dir", f"{self._directory.name}/data", "--ready-file", str(self._ready_file)]
        command += ["--workers", str(self._workers), "--handlers", "handlers"]
        environment = {**os.environ, "JOBLEDGER_WORKER_SLOTS": str(self._slots), "PYTHONPATH": str(HERE)}
        log = (Path(self._directory.name) / "dev.log").open("wb")
        self._process = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((Path(self._directory.name) / "dev.log").read_text()[-3000:])
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self.http.close()
        self._directory.cleanup()

    @property
    def ready(self) -> dict[str, Any]:
        """The ready file as it is now."""
        ready: dict[str, Any] = json.loads(self._ready_file.read_text())
        return ready

    def role(self, instance_id: str) -> dict[str, Any]:
        """One role of the ready file."""
        return next(role for role in self.ready["roles"] if role["instance_id"] == instance_id)

    def sql(self, query: str, *args: object) -> Any:
        """First value of a query on the read models."""
        with psycopg.connect(self.ready["postgres_dsn"], autocommit=True) as connection:
            row = connection.execute(query, args).fetchone()
            return None if row is None else row[0]

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer; raises when there are errors."""
        body = {"query": query, "variables": variables}
        answer = self.http.post(self.ready["graphql_url"], json=body).json()
        if "errors" in answer:
            raise RuntimeError(str(answer["errors"])[:500])
        data: dict[str, Any] = answer["data"]
        return data

    def metric(self, instance_id: str, name: str) -> float:
        """The sum over the series of a metric."""
        with urllib.request.urlopen(self.role(instance_id)["metrics_url"]) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((name + "{", name + " ")))

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds so far of each process, its children included."""
        ready = self.ready
        pids = {role["instance_id"]: role["pid"] for role in ready["roles"]}
        pids |= {"broker": ready["broker"]["pid"], "postgres": ready["postgres"]["pid"]}
        return {name: _cpu(psutil.Process(pid)) for name, pid in pids.items() if pid}

    def rss_bytes(self, instance_id: str) -> int:
        """Resident memory of a role."""
        rss: int = psutil.Process(self.role(instance_id)["pid"]).memory_info().rss
        return rss


def _cpu(process: psutil.Process) -> float:
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
