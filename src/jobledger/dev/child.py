"""Children that never outlive their starter, seen from the starter's side; `guard.py` is the other side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")
_LOG_TAIL_BYTES = 4_000


class ChildFailedError(RuntimeError):
    """A process of the embedded stack did not come up or ended by itself; the text holds the tail of its log."""


class GuardedChild:
    """One command below a guard process. The child ends when this process does, even after `kill -9`.

    `log_path` gets the child's output; `user` is `(uid, gid)` to drop to, for programs that refuse to run as root.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 20.0,
        user: tuple[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._log_path = log_path
        self._stop_signal = stop_signal
        self._grace_seconds = grace_seconds
        identity = "" if user is None else f"{user[0]}:{user[1]}"
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(log_path), str(int(stop_signal)), str(grace_seconds)]
        self._guard = subprocess.Popen(
            [*guard, identity, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,  # Ctrl-C in a terminal must reach the starter alone, which stops things in order
        )
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line.strip():
            self._guard.wait()
            self._close_pipes()
            raise ChildFailedError(f"The process could not be started. {self.log_tail()}")
        return int(line)

    @property
    def exit_code(self) -> int | None:
        """None while the child runs, else its exit status (128 + n after signal n)."""
        return self._guard.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the child; nothing happens when it has ended."""
        if self.exit_code is None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(bytes([number]))
                self._guard.stdin.flush()

    def stop(self) -> int:
        """Asks the child to end, kills it when the grace time is over; returns its exit status."""
        self.signal(self._stop_signal)
        return self.wait(self._grace_seconds)

    def kill(self) -> int:
        """`kill -9`; returns when the child is gone."""
        self.signal(signal.SIGKILL)
        return self.wait(self._grace_seconds)

    def wait(self, timeout_seconds: float) -> int:
        """Waits for the end of the child; after the time-out it is killed."""
        try:
            code = self._guard.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            code = self._guard.wait()
        self._close_pipes()
        return code

    def log_tail(self) -> str:
        """The last lines that the child wrote, for an error message."""
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            return f"The end of {self._log_path}:\n{log.read().decode(errors='replace')}"
        return f"There is no log at {self._log_path}."

    def _close_pipes(self) -> None:
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
