"""Roles of a cell of which each runs an older build or this one; `move` takes one of them to the other build.

`builds/` holds what was built of older commits, as wheels without their RECORD, packed anew by `tar -cJ`; they run with
the libraries of this one.
"""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

from chaos_stack import Role
from role_forks import EMISSIONS_VARIABLE, MODULES, RoleForks

from jobledger.dev.parent import PARENT_FD_VARIABLE
from jobledger.dev.ports import free_port

TESTS = Path(__file__).parents[1]
OLD, NEW = "old", "new"
#: What roles of the old build have in common.
OLD_MODULES = ("cli.roles", "processors.role", "projections.role", "graphql.role", "workers.role")
PARTITIONS = 4
ROLES = ("scheduler-1", "scheduler-2", "projector-1", "api-1", "worker-1")
READY_SECONDS = 60.0


class MixedStack:
    """`roles` are those that run; `builds` says which build each of them is of."""

    def __init__(self, bootstrap: str, cell: str, dsn: str, folder: Path) -> None:
        self.folder = folder
        self.api_port = free_port()
        self._pipe = os.pipe()
        old = folder / OLD
        with tarfile.open(next((Path(__file__).parent / "builds").glob("jobledger-0.1.0.tar.xz"))) as packed:
            packed.extractall(old, filter="data")
        common = {
            **os.environ,
            PARENT_FD_VARIABLE: str(self._pipe[0]),
            "CHAOS_JOURNAL": str(folder / "journal.jsonl"),
            "JOBLEDGER_CELL": cell,
            "JOBLEDGER_PARTITIONS": str(PARTITIONS),
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_POSTGRES_DSN": dsn,
            "JOBLEDGER_API_PORT": str(self.api_port),
            "JOBLEDGER_HANDLERS": "chaos_handlers",
            "JOBLEDGER_SESSION_TIMEOUT_SECONDS": "6",
            "JOBLEDGER_LEASE_SECONDS": "6",
            "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "1",
            "JOBLEDGER_LOG_LEVEL": "WARN",
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
            "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        }
        handlers = str(TESTS / "chaos")
        paths = {OLD: f"{old}{os.pathsep}{handlers}", NEW: handlers}
        self._environments = {build: {**common, "PYTHONPATH": path} for build, path in paths.items()}
        del self._environments[OLD][EMISSIONS_VARIABLE]  # what watches goes with this build
        modules = {OLD: OLD_MODULES, NEW: MODULES}
        self._forks = {
            build: RoleForks(self._environments[build], self._pipe[0], modules=modules[build]) for build in paths
        }
        self.roles: dict[str, Role] = {}
        self.builds: dict[str, str] = {}

    def start(self, build: str) -> None:
        """All roles, of one build."""
        for name in ROLES:
            self._start(name, build)
        for name in ROLES:
            self._ready(name)

    def move(self, name: str, build: str) -> None:
        """Stop a role as an operator does, and start it again with the other build; it is ready when this returns."""
        self.roles[name].stop()
        self.roles[name].end()
        self._start(name, build)
        self._ready(name)

    def _start(self, name: str, build: str) -> None:
        role = Role(name, self._environments[build], self.folder, self._pipe[0], self._forks[build])
        self.roles[name], self.builds[name] = role, build
        role.start()

    def _ready(self, name: str) -> None:
        role, deadline = self.roles[name], time.monotonic() + READY_SECONDS
        while not role.ready:
            assert not role.ended and time.monotonic() < deadline, f"{name} ({self.builds[name]}): {role.log_tail()}"
            time.sleep(0.05)

    def stop(self) -> None:
        for role in self.roles.values():
            role.stop()
        for role in self.roles.values():
            role.end()
        for forks in self._forks.values():
            forks.close()
        for end in self._pipe:
            os.close(end)
