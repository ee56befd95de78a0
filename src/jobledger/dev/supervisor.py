"""`jobledger dev`: broker, Postgres and all roles as children of one process that starts, watches and stops them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from jobledger.dev.child import ChildFailedError
from jobledger.dev.datadir import DataDir, DataDirInUseError, data_dir
from jobledger.dev.jars import DownloadFailedError, default_cache_dir, kafka_jars
from jobledger.dev.options import DevOptions, layout
from jobledger.dev.ports import wait_until_free
from jobledger.dev.ready import RunningRole, RunningStack, write_ready_file
from jobledger.dev.roles import RoleProcess, role_environment
from jobledger.dev.stack import Stack, make_stack

_TICK_SECONDS = 0.1
_FORMER_STACK_SECONDS = 20.0
_ROLE_GRACE_SECONDS = 15.0
_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 10.0
_SETTLED_SECONDS = 30.0
_MAX_FAILED_STARTS = 3
# Those that hand out and take in work go first, so that what they end with is still decided and shown.
_STOP_ORDER = (("worker", "api"), ("scheduler", "projector"))

EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 130


class PortTakenError(RuntimeError):
    """Something else listens where the stack would; the text names port and remedy."""


class RoleFailedError(RuntimeError):
    """A role did not become ready; the text holds the end of its log."""


@dataclass(slots=True)
class _Watched:
    """A role and how its last starts went."""

    process: RoleProcess
    started_at: float = 0.0
    start_due_at: float | None = None
    failures: int = 0


class Supervisor:
    """The running stack. `start()`, then `tick()` several times a second, `stop()` at the end (idempotent).

    `report` gets one line for each thing worth telling.
    """

    def __init__(self, options: DevOptions, directory: DataDir, report: Callable[[str], None]) -> None:
        self._options = options
        self._directory = directory
        self._report = report
        self._places = layout(options)
        self._stack: Stack | None = None
        self._roles: list[_Watched] = []
        self._pipe: tuple[int, int] | None = None
        self.ready = False

    def start(self) -> None:
        """Starts broker and Postgres together, then all roles together; does not wait for the roles.

        Raises PortTakenError, ChildFailedError or DownloadFailedError; then nothing is left running.
        """
        self._claim_ports()
        places = self._places
        self._stack = make_stack(self._directory.path, places.kafka, places.controller, places.postgres)
        self._stack.start()
        self._pipe = os.pipe()
        for instance in places.instances:
            env = role_environment(self._options, places, instance, self._stack.postgres.dsn, os.environ)
            process = RoleProcess(
                instance,
                self._options.role_command(instance.role),
                env,
                self._directory.path / "logs" / f"{instance.id}.log",
                parent_pipe=self._pipe[0],
                verbose=self._options.verbose,
            )
            self._roles.append(_Watched(process))
            self._start_role(self._roles[-1])

    def tick(self) -> None:
        """Starts again what ended. Raises RoleFailedError when a role cannot be brought up the first time."""
        self._revive_servers()
        for watched in self._roles:
            self._watch(watched)
        if not self.ready and all(watched.process.is_ready() for watched in self._roles):
            self.ready = True
            self._publish()

    def describe(self) -> RunningStack:
        """The stack as it runs now."""
        assert self._stack is not None
        return RunningStack(
            supervisor_pid=os.getpid(),
            data_dir=self._directory.path,
            kafka_bootstrap_servers=self._stack.broker.bootstrap_servers,
            broker_pid=self._stack.broker.pid,
            postgres_dsn=self._stack.postgres.dsn,
            postgres_pid=self._stack.postgres.pid,
            roles=tuple(
                RunningRole(watched.process.instance, watched.process.pid, watched.process.log_path)
                for watched in self._roles
            ),
        )

    def not_ready(self) -> str:
        """The roles that do not answer, each with the end of its log."""
        waiting = [watched.process for watched in self._roles if not watched.process.is_ready()]
        return "\n".join(f"{process.instance.id} is not ready; {_log_end(process)}" for process in waiting)

    def stop(self) -> None:
        """Stops the roles in their order, then broker and Postgres."""
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        for group in _STOP_ORDER:
            _stop_roles([item.process for item in self._roles if item.process.instance.role in group])
        self._roles.clear()
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
            self._pipe = None
        if self._stack is not None:
            self._stack.stop()
            self._stack = None
        self._directory.left_in_order()

    def _claim_ports(self) -> None:
        names = self._places.named_ports()
        patience = _FORMER_STACK_SECONDS if self._directory.left_in_disorder else 0.0
        taken = wait_until_free(list(names), patience)
        if taken:
            port = taken[0]
            raise PortTakenError(
                f"Port {port} ({names[port]}) is taken{_owner_of(port)}: stop that, or choose other ports with "
                f"--port-base (now {self._options.port_base})."
            )

    def _start_role(self, watched: _Watched) -> None:
        watched.process.start()
        watched.started_at = time.monotonic()
        watched.start_due_at = None

    def _watch(self, watched: _Watched) -> None:
        now = time.monotonic()
        status = watched.process.ended()
        if status is not None:
            settled = now - watched.started_at > _SETTLED_SECONDS
            watched.failures = 1 if settled else watched.failures + 1
            self._note_end(watched, status, now)
        if watched.start_due_at is not None and now >= watched.start_due_at:
            self._start_role(watched)
            if self.ready:
                self._publish_pids()

    def _note_end(self, watched: _Watched, status: int, now: float) -> None:
        process = watched.process
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if not self.ready and watched.failures >= _MAX_FAILED_STARTS:
            raise RoleFailedError(f"{process.instance.id} ended with {how} before it was ready; {_log_end(process)}")
        if not self._options.restart:
            self._report(f"{process.instance.id} ended with {how}; it is not started again (--no-restart).")
            return
        delay = min(_FIRST_BACKOFF_SECONDS * 2 ** (watched.failures - 1), _MAX_BACKOFF_SECONDS)
        watched.start_due_at = now + delay
        self._report(f"{process.instance.id} ended with {how}; it starts again in {delay:g} s.")

    def _revive_servers(self) -> None:
        if self._stack is None:
            return
        for name, server in (("Kafka", self._stack.broker), ("Postgres", self._stack.postgres)):
            if not server.running:
                self._report(f"{name} ended; it is started again.")
                server.start()
                if self.ready:
                    self._publish_pids()

    def _publish(self) -> None:
        self._report(self.describe().as_text())
        self._publish_pids()

    def _publish_pids(self) -> None:
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, self.describe())


def _stop_roles(processes: list[RoleProcess]) -> None:
    for process in processes:
        process.ask_to_stop()
    deadline = time.monotonic() + _ROLE_GRACE_SECONDS
    for process in processes:
        process.wait(max(0.0, deadline - time.monotonic()))
        process.close()


def _log_end(process: RoleProcess) -> str:
    return f"the end of {process.log_path}:\n{process.log_tail()}"


def _owner_of(port: int) -> str:
    """Who listens there, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


@contextlib.contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event set by Ctrl-C and SIGTERM while the block runs."""
    requested = threading.Event()
    former = {
        number: signal.signal(number, lambda *_: requested.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield requested
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _to_terminal(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_dev(options: DevOptions) -> int:
    """Runs the stack until Ctrl-C or SIGTERM; call it from the main thread.

    Returns the exit status: 0 stopped as asked, 1 something did not come up, 2 a port or the directory is taken,
    130 Ctrl-C during the first download.
    """
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)
    try:
        kafka_jars(default_cache_dir())  # before signals are caught: Ctrl-C ends a download at once
        with data_dir(options.data_dir, ephemeral=options.ephemeral) as directory, _stop_requests() as requested:
            return _supervise(Supervisor(options, directory, _to_terminal), options, requested)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (PortTakenError, DataDirInUseError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_REFUSED
    except (ChildFailedError, DownloadFailedError, RoleFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED


def _supervise(supervisor: Supervisor, options: DevOptions, requested: threading.Event) -> int:
    try:
        supervisor.start()
        deadline = time.monotonic() + options.ready_timeout_seconds
        while not requested.wait(_TICK_SECONDS):
            supervisor.tick()
            if not supervisor.ready and time.monotonic() > deadline:
                raise RoleFailedError(supervisor.not_ready())
    finally:
        supervisor.stop()
    return EXIT_OK
