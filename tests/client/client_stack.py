"""The four roles as processes, for the tests of the client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from jobledger import AsyncClient
from jobledger.dev.ports import free_port

TESTS = Path(__file__).parents[1]
START = "import asyncio; from jobledger.settings import Settings; from jobledger.{role} import run; "
RUN = "raise SystemExit(asyncio.run(run(Settings())))"
ROLES = {
    "scheduler": "bootstrap.scheduler",
    "projector": "bootstrap.projector",
    "api": "bootstrap.api",
    "worker": "bootstrap.worker",
}


@dataclass(frozen=True)
class Stack:
    """`url`: of the api; `processes` by role."""

    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    @contextlib.contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """A role that does nothing for a while."""
        process = self.processes[role]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def stack(module_ground: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four, ready, for the tests of a file."""
    tmp_path = tmp_path_factory.mktemp("roles")
    api_port = free_port()
    common = {
        **os.environ,
        "JOBLEDGER_CELL": module_ground.cell,
        "JOBLEDGER_DEV": "true",
        "JOBLEDGER_PARTITIONS": "4",
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": module_ground.bootstrap_servers,
        "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
        "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        "JOBLEDGER_POSTGRES_DSN": module_ground.postgres_dsn,
        "JOBLEDGER_API_PORT": str(api_port),
        "JOBLEDGER_HANDLERS": "sample_handlers",
        "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "0.5",
        "JOBLEDGER_LEASE_SECONDS": "5",
        "PYTHONPATH": str(TESTS),
        # As `jobledger dev` has it: the api keeps the last traces.
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{api_port}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    ports = {name: free_port() for name in ROLES}
    try:
        for name, role in ROLES.items():
            if name == "projector":
                _ready(ports["scheduler"], processes["scheduler"], tmp_path / "scheduler.log")
            env = {**common, "JOBLEDGER_INSTANCE_ID": f"{name}-1", "JOBLEDGER_HEALTH_PORT": str(ports[name])}
            with (tmp_path / f"{name}.log").open("wb") as output:
                command = [sys.executable, "-c", START.format(role=role) + RUN]
                processes[name] = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        for name, process in processes.items():
            _ready(ports[name], process, tmp_path / f"{name}.log")
        yield Stack(f"http://127.0.0.1:{api_port}", processes)
    finally:
        for process in reversed(list(processes.values())):
            process.terminate()
        for process in processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 40
    with httpx.Client(timeout=1) as http:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()[-3000:]
            with contextlib.suppress(httpx.HTTPError):
                if http.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                    return
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stack.url) as one:
        yield one
