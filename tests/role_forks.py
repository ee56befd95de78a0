"""Processes of roles, forked off one that has imported them all: a start costs what the role does, not the imports.

As a program: `role_forks.py DESCRIPTOR MODULE…` serves requests on a socket, one JSON object each, until its end.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_REQUEST_BYTES = 1 << 20
POLL_SECONDS = 0.01
#: Names the file into which roles write what they emit; see `emissions`.
EMISSIONS_VARIABLE = "JOBLEDGER_TEST_EMISSIONS"
#: What a start of any role would import.
MODULES = ("cli.roles", "bootstrap.scheduler", "bootstrap.projector", "bootstrap.api", "bootstrap.worker")


class ForkedRole:
    """One role's process, with what is needed of `subprocess.Popen`."""

    def __init__(self, forks: RoleForks, pid: int) -> None:
        self._forks = forks
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, as of `subprocess`; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("role", timeout or 0)
            time.sleep(POLL_SECONDS)
        return status


class RoleForks:
    """Starts roles; `environment` and `descriptors` are what all of them get, `modules` what they have in common."""

    def __init__(self, environment: Mapping[str, str], *descriptors: int, modules: Sequence[str] = MODULES) -> None:
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            self._program = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,
            )

    def start(self, role: str, environment: Mapping[str, str], log: Path) -> ForkedRole:
        """A new process in a session of its own, that writes to the end of `log`."""
        log.touch()  # it can be read from now on
        return ForkedRole(self, self.ask(role=role, environment=dict(environment), log=str(log)))

    def ask(self, **request: Any) -> Any:
        """The answer to a request; raises RuntimeError when nobody serves any more."""
        with self._asking:
            self._socket.settimeout(60)
            self._socket.send(json.dumps(request).encode())
            return json.loads(self._socket.recv(MAX_REQUEST_BYTES))

    def close(self) -> None:
        """Serve no more. What was started has to have ended, or becomes somebody else's."""
        self._program.kill()
        self._program.wait()
        self._socket.close()


def _serve(requests: socket.socket) -> str:
    """In the program: returns in each process that is forked, with the role that it is to be."""
    ended: dict[int, int] = {}  # two may ask for the same one at the same time, and the system tells it once
    while True:
        request = json.loads(requests.recv(MAX_REQUEST_BYTES))
        if "poll" in request:
            wanted = request["poll"]
            if wanted not in ended and (found := os.waitpid(wanted, os.WNOHANG))[0]:
                ended[wanted] = os.waitstatus_to_exitcode(found[1])
            requests.send(json.dumps(ended.get(wanted)).encode())
        elif pid := os.fork():
            requests.send(json.dumps(pid).encode())
        else:
            requests.close()
            _become(request["environment"], request["log"])
            role: str = request["role"]
            return role


def _become(environment: dict[str, str], log: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    random.seed()


if __name__ == "__main__":
    import gc
    import importlib

    from jobledger.cli import main

    for module in sys.argv[2:]:
        importlib.import_module(f"jobledger.{module}")
    if EMISSIONS_VARIABLE in os.environ:
        import emissions

        emissions.watch()
    gc.collect()
    gc.freeze()  # a collection in a fork then touches, and so copies, nothing of what was imported
    sys.argv = ["jobledger", _serve(socket.socket(fileno=int(sys.argv[1])))]
    main()
