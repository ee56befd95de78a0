"""`jobledger dev`: broker, Postgres and all roles as children of one process that starts, watches and stops them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from jobledger.dev.child import ChildFailedError
from jobledger.dev.datadir import DataDir, DataDirError, data_dir
from jobledger.dev.descendants import Descendants
from jobledger.dev.extra import ExtraMissingError, require_extra
from jobledger.dev.handlers import HandlersError, check_handlers
from jobledger.dev.jars import DownloadFailedError, default_cache_dir
from jobledger.dev.kafka import prepare_kafka
from jobledger.dev.observing import INSTALL_LINE, make_watchers
from jobledger.dev.options import PARTITIONS, BadOptionError, DevOptions, layout
from jobledger.dev.ports import wait_until_free
from jobledger.dev.ready import RunningRole, RunningStack, write_ready_file
from jobledger.dev.roles import RoleProcess, role_environment, sentence_in
from jobledger.dev.server import Server
from jobledger.dev.stack import Stack, make_stack
from jobledger.dev.stopping import StopRequest, stop_requests
from jobledger.dev.watchers import Watcher

_TICK_SECONDS = 0.1
_FORMER_STACK_SECONDS = 20.0
#: A worker gives its handlers 30 s, then stops them, reports and takes its leave; it ends itself before this is over.
WORKER_GRACE_SECONDS = 75.0
ROLE_GRACE_SECONDS = 30.0
#: For what a role has started to end after it.
_LEFT_SECONDS = 3.0
#: What ends sooner is waited for in silence; what does not is told, and told again each time this has gone by.
_PATIENCE_SECONDS = 1.0
_TELL_AGAIN_SECONDS = 10.0
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


class RoleRefusedError(RuntimeError):
    """A role ended with status 2: no other start of it can work. The text is the one sentence that it said."""


@dataclass(slots=True)
class _Watched:
    """A role and how its last starts went."""

    process: RoleProcess
    started_at: float = 0.0
    start_due_at: float | None = None
    failures: int = 0


class Supervisor:
    """The running stack. `start()`, then `tick()` several times a second, `stop()` at the end (idempotent).

    `report` gets one line for each thing worth telling. `left_behind` names, after the end, the processes that had
    outlived their role and were killed.
    """

    def __init__(self, options: DevOptions, directory: DataDir, report: Callable[[str], None]) -> None:
        self._options = options
        self._directory = directory
        self._report = report
        self._places = layout(options)
        self._stack: Stack | None = None
        self._roles: list[_Watched] = []
        self._watchers: dict[str, Watcher] = {}
        self._pipe: tuple[int, int] | None = None
        self._descendants = Descendants("JOBLEDGER_STACK")
        self.ready = False
        self.left_behind: list[str] = []

    def start(self) -> None:
        """Starts broker and Postgres together, then all roles together; does not wait for the roles.

        Raises PortTakenError, ChildFailedError, DownloadFailedError or ExtraMissingError; then nothing is left running.
        """
        self._claim_ports()
        places = self._places
        self._stack = make_stack(self._directory.path, places.kafka, places.controller, places.postgres)
        self._stack.start()
        self._pipe = os.pipe()
        logs = self._options.logs or self._directory.path / "logs"
        for instance in places.instances:
            env = role_environment(self._options, places, instance, self._stack.postgres.dsn, os.environ)
            process = RoleProcess(
                instance,
                self._options.role_command(instance.role),
                {**env, **self._descendants.environment},
                logs / f"{instance.id}.jsonl",
                parent_pipe=self._pipe[0],
                verbose=self._options.verbose,
            )
            self._roles.append(_Watched(process))
            self._start_role(self._roles[-1])
        if self._options.observe:
            self._start_watchers()

    def tick(self) -> None:
        """Starts again what ended.

        Raises RoleFailedError when a role cannot be brought up the first time, and RoleRefusedError when one says that
        it never can.
        """
        self._revive_servers()
        for watched in self._roles:
            self._watch(watched)
        if not self.ready and all(watched.process.is_ready() for watched in self._roles):
            self.ready = True
            self._directory.keep_partitions(self._options.partitions or PARTITIONS)
            self._publish_pids()

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
            watchers={name: (watcher.url, watcher.pid) for name, watcher in self._watchers.items()},
        )

    def not_ready(self) -> str:
        """The roles that do not answer, each with the end of its log."""
        waiting = [watched.process for watched in self._roles if not watched.process.is_ready()]
        return "\n".join(f"{process.instance.id} is not ready; {_log_end(process)}" for process in waiting)

    def stop(self) -> None:
        """Stops the roles in their order, then broker and Postgres; tells what it waits for."""
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        for group in _STOP_ORDER:
            _Stopping([item.process for item in self._roles if item.process.instance.role in group], self._report).run()
        self._forget_roles()
        for watcher in self._watchers.values():
            watcher.stop()
        if self._stack is not None:
            self._stack.stop()
            self._stack = None
        self._directory.left_in_order()

    def kill(self) -> None:
        """`kill -9` of everything: for a person who does not want to wait. Nothing accepted is lost by it."""
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        for watched in self._roles:
            watched.process.end_now()
        self._forget_roles(grace_seconds=0.0)
        for watcher in self._watchers.values():
            watcher.kill()
        if self._stack is not None:
            self._stack.kill()
            self._stack = None

    def _forget_roles(self, grace_seconds: float = _LEFT_SECONDS) -> None:
        """Every role has ended; what one of them left behind ends now."""
        if not self._roles:
            return
        self._roles.clear()
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
            self._pipe = None
        self.left_behind = self._descendants.left_after(grace_seconds)
        self._descendants.kill()
        for name in self.left_behind:
            self._report(f"Process {name} had outlived its role; it was killed.")

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

    def _start_watchers(self) -> None:
        watchers = make_watchers(self._places, self._directory.path / "observe")
        if missing := {"Prometheus", "Alertmanager"} - watchers.keys():
            self._report(f"{' and '.join(sorted(missing))} can't be found: {INSTALL_LINE}. Going on without.")
        for name, watcher in watchers.items():
            watcher.start()
            self._watchers[name] = watcher

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
        if status == EXIT_REFUSED:
            text = process.log_tail()
            raise RoleRefusedError(sentence_in(text) or f"{process.instance.id} ended with {how}; {_log_end(process)}")
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
        servers: dict[str, Server] = {"Kafka": self._stack.broker, "Postgres": self._stack.postgres, **self._watchers}
        for name, server in servers.items():
            if not server.running:
                self._report(f"{name} ended; it is started again.")
                server.start()
                if self.ready:
                    self._publish_pids()

    def _publish_pids(self) -> None:
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, self.describe())


class _Stopping:
    """Some roles that end at the same time, each within its grace."""

    def __init__(self, processes: list[RoleProcess], report: Callable[[str], None]) -> None:
        self._processes = processes
        self._report = report
        self._began = time.monotonic()
        self._tell_at = self._began + _PATIENCE_SECONDS

    def run(self) -> None:
        """Asks them all, waits, kills those that do not end in time."""
        for process in self._processes:
            process.ask_to_stop()
        while left := [process for process in self._processes if process.runs()]:
            waited = time.monotonic() - self._began
            for process in left:
                if waited > _grace(process):
                    self._report(f"{process.instance.id} has not ended within {_grace(process):g} s; it is killed.")
                    process.wait(0.0)
            if time.monotonic() > self._tell_at:
                self._tell_at = time.monotonic() + _TELL_AGAIN_SECONDS
                what = ", ".join(map(_still_doing, left))
                self._report(f"Waiting for {what}, at most {_longest(left, waited):.0f} s. Ctrl-C ends it at once.")
            time.sleep(_TICK_SECONDS / 2)
        for process in self._processes:
            process.wait(0.0)
            process.close()


def _grace(process: RoleProcess) -> float:
    return WORKER_GRACE_SECONDS if process.instance.role == "worker" else ROLE_GRACE_SECONDS


def _longest(processes: list[RoleProcess], waited: float) -> float:
    return max(_grace(process) for process in processes) - waited


def _still_doing(process: RoleProcess) -> str:
    running = process.running_tasks() if process.instance.role == "worker" else None
    if not running:
        return process.instance.id
    handlers = "running handler has" if running == 1 else f"{running} running handlers have"
    return f"{process.instance.id} (its {handlers} 30 s to end)"


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


def _say(line: str) -> None:
    """Talk, on standard error; a terminal that was closed stops nothing."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _show(text: str) -> None:
    """What was asked for, on standard output."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def run_dev(options: DevOptions) -> int:
    """Runs the stack until Ctrl-C or SIGTERM; call it from the main thread.

    Returns the exit status: 0 stopped as asked, 1 something did not come up, 2 it can't work as asked (a port or the
    directory is taken, handlers that can't be loaded, a role that refuses its settings), 130 Ctrl-C before anything
    was started, or a second one, which ends everything at once.
    """
    try:
        require_extra()
        _make_way_for(options.ready_file)
        with data_dir(options.data_dir, ephemeral=options.ephemeral) as directory:
            options = _with_partitions(options, directory)
            # Before signals are caught: Ctrl-C ends these two at once.
            check_handlers(options)
            prepare_kafka(default_cache_dir())
            supervisor = Supervisor(options, directory, _say)
            with stop_requests() as request, ended_with(supervisor, request, _say):
                _run(supervisor, options, request)
            return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (PortTakenError, DataDirError, ExtraMissingError, BadOptionError, HandlersError, RoleRefusedError) as error:
        _say(str(error))
        return EXIT_REFUSED
    except (ChildFailedError, DownloadFailedError, RoleFailedError) as error:
        _say(str(error))
        return EXIT_FAILED


def _with_partitions(options: DevOptions, directory: DataDir) -> DevOptions:
    """The number that the data was made with; asking for another one is refused."""
    made_with = directory.partitions
    if made_with is None or made_with == options.partitions:
        return options
    if options.partitions is not None:
        raise BadOptionError(
            f"--partitions is {options.partitions}, but the data in {directory.path} was made with {made_with}, which "
            f"is for ever: leave --partitions out, or name another --data-dir."
        )
    return replace(options, partitions=made_with)


def _make_way_for(ready_file: Path | None) -> None:
    """A former one would be taken for ours."""
    if ready_file is None:
        return
    try:
        ready_file.parent.mkdir(parents=True, exist_ok=True)
        ready_file.unlink(missing_ok=True)
        ready_file.touch()
        ready_file.unlink()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise BadOptionError(f"--ready-file is {ready_file}, which can't be written ({why}): name another.") from error


@contextlib.contextmanager
def ended_with(supervisor: Supervisor, request: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Around what runs beside a supervisor, within `stop_requests`: stops it at the end, whatever that is.

    KeyboardInterrupt (Ctrl-C after the first request) kills it, and is raised again.
    """
    try:
        try:
            yield
        except Exception:
            supervisor.stop()
            raise
        supervisor.stop()
    except KeyboardInterrupt:
        request.is_final()
        say("Ending everything at once.")
        supervisor.kill()
        raise


def _run(supervisor: Supervisor, options: DevOptions, request: StopRequest) -> None:
    supervisor.start()
    deadline = time.monotonic() + options.ready_timeout_seconds
    told = False
    while not request.wait(_TICK_SECONDS):
        supervisor.tick()
        if supervisor.ready and not told:
            _show(supervisor.describe().as_text())
            told = True
        if not supervisor.ready and time.monotonic() > deadline:
            raise RoleFailedError(supervisor.not_ready())
