"""Runs one command and takes it down when the process that asked for it is gone.

Started as a plain script (`python -I -S guard.py …`), so it may import the standard library alone and must stay quick.
Its standard input is a pipe held by the starter: one byte asks to send the signal of that number to the child, and
the end of the pipe (the starter ended, however it died) stops the child. The first line on standard output is the
child's process id. The exit status is the child's, or 128 plus the signal that ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from functools import partial
from typing import Any

LOST_STARTER = b""


def _death_signal_request() -> Callable[[], object] | None:
    """On Linux the kernel ends the child should even the guard be killed; other systems lack the call."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here, not in the forked child, which may already run as a user that cannot read this Python.
    import ctypes  # noqa: PLC0415 - only paid for where it is used

    pr_set_pdeathsig = 1
    return partial(ctypes.CDLL(None).prctl, pr_set_pdeathsig, int(signal.SIGKILL))


def _start(log_path: str, user: str, command: list[str]) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if user:
        uid, gid = (int(part) for part in user.split(":"))
        identity = {"user": uid, "group": gid, "extra_groups": []}
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_death_signal_request(),  # noqa: PLW1509 - no thread runs yet
            **identity,
        )
    finally:
        os.close(log)


def _exit_with_child(child: subprocess.Popen[bytes]) -> None:
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


def _stop(child: subprocess.Popen[bytes], stop_signal: int, grace_seconds: float) -> None:
    child.send_signal(stop_signal)
    # A stopped process (SIGSTOP) acts on the request only once it goes on.
    child.send_signal(signal.SIGCONT)
    try:
        child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _GuardStoppedError(Exception):
    """Somebody asked the guard itself to end."""


def _refuse(_signum: int, _frame: types.FrameType | None) -> None:
    raise _GuardStoppedError


def main(arguments: list[str]) -> None:
    """`guard.py LOG STOP_SIGNAL GRACE_SECONDS UID:GID|"" COMMAND…`"""
    log_path, stop_signal, grace_seconds, user, *command = arguments
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _refuse)
    child = _start(log_path, user, command)
    try:
        os.write(1, b"%d\n" % child.pid)
        threading.Thread(target=_exit_with_child, args=(child,), daemon=True).start()
        while (request := os.read(0, 1)) != LOST_STARTER:
            child.send_signal(request[0])
    except (_GuardStoppedError, BrokenPipeError):
        pass
    _stop(child, int(stop_signal), float(grace_seconds))
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(sys.argv[1:])
