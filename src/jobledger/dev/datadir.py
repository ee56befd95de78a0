"""The directory that holds all data of one embedded stack, used by one supervisor at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class DataDirError(RuntimeError):
    """The directory can't be used; the text is one sentence that names it and the remedy."""


class DataDirInUseError(DataDirError):
    """Another supervisor works on the same directory; the text names it and the remedy."""


class DataDir:
    """A directory whose lock this process holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._running = path / "running"
        self.left_in_disorder = self._running.exists()
        """The last supervisor was killed; what it had started may need some seconds to end."""
        self._running.touch()

    @property
    def partitions(self) -> int | None:
        """The number that its data was made with; None while there is none."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.path / "partitions").read_text())
        return None

    def keep_partitions(self, number: int) -> None:
        """Call when its topics exist: that is their number for ever."""
        if self.partitions is None:
            (self.path / "partitions").write_text(f"{number}\n")

    def left_in_order(self) -> None:
        """Call when everything below is stopped."""
        self._running.unlink(missing_ok=True)


@contextlib.contextmanager
def data_dir(path: Path, *, ephemeral: bool) -> Iterator[DataDir]:
    """Makes and locks the directory (a temporary one, removed at the end, when ephemeral).

    Raises DataDirInUseError when another process holds the lock, DataDirError when the path can't be a directory or
    can't be written.
    """
    if ephemeral:
        with tempfile.TemporaryDirectory(prefix="jobledger-dev-", ignore_cleanup_errors=True) as name:
            yield DataDir(Path(name))
        return
    path = path.absolute()
    with _made(path) as lock:
        _lock(lock, path)
        yield DataDir(path)


def _made(path: Path) -> TextIO:
    """The open lock file of the directory, which exists afterwards."""
    if path.exists() and not path.is_dir():
        raise DataDirError(f"--data-dir is {path}, which is a file: name a directory.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Often made inside a project: its version control must not pick the data up.
        with contextlib.suppress(FileExistsError), (path / ".gitignore").open("x") as ignore:
            ignore.write("*\n")
        return (path / "lock").open("a+")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DataDirError(f"--data-dir is {path}, which can't be used ({why}): name another directory.") from error


def _lock(lock: TextIO, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        raise DataDirInUseError(
            f"The data directory {path} is used by another jobledger dev (process {owner}): "
            "stop it, or choose another --data-dir and --port-base."
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
