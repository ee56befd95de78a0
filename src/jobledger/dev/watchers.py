"""Prometheus and Alertmanager as child processes, for those who have them installed."""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from jobledger.dev.child import ChildFailedError, GuardedChild
from jobledger.dev.logs import rotate
from jobledger.dev.ports import LOOPBACK

_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_LOG_BYTES = 5_000_000
#: By what they are called: Debian's package names the second one differently from its makers.
_PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("alertmanager", "prometheus-alertmanager")}


def installed(name: str) -> str | None:
    """Where the program `prometheus` or `alertmanager` is; None when it is not installed."""
    return next(filter(None, map(shutil.which, _PROGRAMS[name])), None)


class Watcher:
    """One of the two on a port of the loopback address, a `Server` of the stack.

    `command` says everything but the port. It keeps its data in its folder and ends with the process that has started
    it.
    """

    def __init__(self, command: Sequence[str], port: int, log_path: Path) -> None:
        self.port = port
        self.log_path = log_path
        self._command = [*command, f"--web.listen-address={LOOPBACK}:{port}"]
        self._child: GuardedChild | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; 0 when it was not started."""
        return self._child.pid if self._child is not None else 0

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.exit_code is None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Start it and wait until it is ready. Raises ChildFailedError with the end of its log."""
        if self.running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.log_path, _LOG_BYTES)
        self._child = GuardedChild(self._command, self.log_path)
        deadline = time.monotonic() + timeout_seconds
        while not self._is_ready():
            if not self.running or time.monotonic() > deadline:
                told = self._child.log_tail()
                self.kill()
                raise ChildFailedError(f"{Path(self._command[0]).name} does not answer. {told}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it in good order; does nothing when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """`kill -9`."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def prometheus(program: str, config: Path, data_dir: Path, port: int) -> Watcher:
    """A Prometheus with `config`, which keeps its samples in `data_dir` for a week."""
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data_dir}",
        "--storage.tsdb.retention.time=7d",
    ]
    return Watcher(command, port, data_dir.with_name("prometheus.log"))


def alertmanager(program: str, config: Path, data_dir: Path, port: int) -> Watcher:
    """An Alertmanager with `config`, alone: it looks for no others of a cluster."""
    command = [program, f"--config.file={config}", f"--storage.path={data_dir}", "--cluster.listen-address="]
    return Watcher(command, port, data_dir.with_name("alertmanager.log"))
