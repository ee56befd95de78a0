"""One role as a child process: its environment, its log, its health, its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from jobledger.dev.logs import BoundedLog
from jobledger.dev.options import PARTITIONS, DevOptions, Instance, Layout
from jobledger.dev.parent import PARENT_FD_VARIABLE
from jobledger.dev.ports import LOOPBACK

_LOG_BYTES = 32_000_000
_CHUNK_BYTES = 65_536
_HEALTH_TIMEOUT_SECONDS = 2.0
_SESSION_TIMEOUT_SECONDS = 6
#: With one of these a user has decided about traces himself.
_OTEL_VARIABLES = (
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SDK_DISABLED",
)


class RoleProcess:
    """A role that can be started again and again; its output goes to one bounded log file.

    `parent_pipe` is the read end of a pipe held by this process: the role ends when that closes.
    """

    def __init__(
        self,
        instance: Instance,
        command: Sequence[str],
        env: Mapping[str, str],
        log_path: Path,
        *,
        parent_pipe: int,
        verbose: bool,
    ) -> None:
        self.instance = instance
        self.log_path = log_path
        self._command = list(command)
        self._env = {**env, PARENT_FD_VARIABLE: str(parent_pipe)}
        self._log = BoundedLog(log_path, _LOG_BYTES)
        self._parent_pipe = parent_pipe
        self._verbose = verbose
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Starts the process; its readiness is asked for separately."""
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self._parent_pipe,),
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the roles in order
        )
        assert self._process.stdout is not None
        self._pump = threading.Thread(target=self._copy_output, args=(self._process.stdout,), daemon=True)
        self._pump.start()

    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def ended(self) -> int | None:
        """The exit status of a process that ended by itself, once; None while it runs or was never started."""
        if self._process is None or self._process.poll() is None:
            return None
        return self._forget(self._process)

    def ask_to_stop(self) -> None:
        """SIGTERM, also to one that was stopped with SIGSTOP."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def wait(self, timeout_seconds: float) -> int | None:
        """Waits for the end, then kills; returns the exit status."""
        process = self._process
        if process is None:
            return None
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return self._forget(process)

    def end_now(self) -> None:
        """`kill -9` of the process and its group, then closes the log."""
        self.wait(0.0)
        self.close()

    def running_tasks(self) -> int | None:
        """How many handlers a worker's health page counts now; None when it does not say."""
        try:
            page = json.loads(self._get("/health/status")[1])
            return int(page["components"]["lease"]["running"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Closes the log. The process must have ended."""
        self._log.close()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def is_ready(self) -> bool:
        """Whether GET /health/ready answers 200."""
        if not self.runs():
            return False
        try:
            return self._get("/health/ready")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self.instance.health_port, timeout=_HEALTH_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _forget(self, process: subprocess.Popen[bytes]) -> int:
        # What the role started (a worker's pool) and left behind is in its session: it must not go on unseen.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if self._pump is not None:
            self._pump.join(_HEALTH_TIMEOUT_SECONDS)
        self._process = None
        return process.returncode

    def _copy_output(self, pipe: IO[bytes]) -> None:
        prefix = f"{self.instance.id} | ".encode()
        with pipe:
            while data := os.read(pipe.fileno(), _CHUNK_BYTES):
                # A full disk or a closed terminal costs log lines; a pipe that nobody reads would stop the role.
                with contextlib.suppress(OSError):
                    self._log.write(data)
                    if self._verbose:
                        shown = b"".join(prefix + line + b"\n" for line in data.splitlines())
                        sys.stdout.write(shown.decode(errors="replace"))
                        sys.stdout.flush()


def sentence_in(text: str) -> str:
    """The last line that a role wrote for people; its log lines are JSON. Empty when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1] if lines else ""


def role_environment(
    options: DevOptions, places: Layout, instance: Instance, postgres_dsn: str, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one role: what this process inherited, and over it what the stack decides."""
    search_path = [str(Path.cwd()), *filter(None, [inherited.get("PYTHONPATH")])]
    first_api = next((item.api_port for item in places.instances if item.api_port), options.port_base)
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(search_path),
        "PYTHONUNBUFFERED": "1",
        "JOBLEDGER_DEV": "1",
        "JOBLEDGER_PARTITIONS": str(options.partitions or PARTITIONS),
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{places.kafka}",
        "JOBLEDGER_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
        "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        "JOBLEDGER_POSTGRES_DSN": postgres_dsn,
        "JOBLEDGER_API_URL": f"http://{LOOPBACK}:{first_api}",
        "JOBLEDGER_HOST": LOOPBACK,
        **({"JOBLEDGER_API_PORT": str(instance.api_port)} if instance.api_port else {}),
        "JOBLEDGER_HEALTH_PORT": str(instance.health_port),
        "JOBLEDGER_INSTANCE_ID": instance.id,
        "JOBLEDGER_SESSION_TIMEOUT_SECONDS": str(_SESSION_TIMEOUT_SECONDS),
        **_tracing(first_api, inherited),
        **({"JOBLEDGER_HANDLERS": ",".join(options.handlers)} if options.handlers else {}),
        **options.environment,
    }


def _tracing(api_port: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Spans go to the first api, which keeps the last of them, unless the user has said where they go."""
    if any(inherited.get(name) for name in _OTEL_VARIABLES):
        return {}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{LOOPBACK}:{api_port}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }
