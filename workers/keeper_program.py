"""Outlives a worker by a moment: ends the processes that it has left, and sees that its jobs hear of its death.

Started by the worker as a plain script (`python -I -S keeper_program.py WORKER JOURNAL FIRST CODE`), so that it is
small and imports the standard library alone. Standard input is a pipe from the worker with lines `+PID` and `-PID`: a
group of processes that has begun or has ended. WORKER is its process id, JOURNAL the descriptor of its journal, FIRST
where the places of handlers begin there. When the worker is gone, however it went, the groups are killed; if a handler
was under way, this becomes CODE, which tells the jobs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

LOOK_SECONDS = 0.25
GROUP_SECONDS = 1.0
#: As in journal.py, which is too large a module for here.
PLACE_BYTES = 1024


def wait_for_the_end(worker: int, groups: set[int]) -> None:
    """Read what the worker says until it is gone. A copy of it that a handler has forked may hold the pipe open."""
    left = b""
    while os.getppid() == worker:
        readable, _, _ = select.select([0], [], [], LOOK_SECONDS)
        if not readable:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))


def wait_for_the_death(worker: int) -> None:
    """A worker that drained as far as it could has closed the pipe, but what is left of it still runs."""
    while os.getppid() == worker:
        time.sleep(LOOK_SECONDS)


def kill(groups: set[int]) -> None:
    """End the groups; nothing of them runs any more when this returns, or a moment later."""
    deadline = time.monotonic() + GROUP_SECONDS
    while groups and time.monotonic() < deadline:
        for group in list(groups):
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                groups.discard(group)
        time.sleep(0.01)


def anything_under_way(journal: int, first: int) -> bool:
    """Whether a place of the journal is filled."""
    size = os.fstat(journal).st_size
    return any(any(os.pread(journal, 4, at)) for at in range(first, size, PLACE_BYTES))


def main() -> None:
    """Wait, kill, tell."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker, journal, first = map(int, sys.argv[1:4])
    groups: set[int] = set()
    with contextlib.suppress(OSError):
        wait_for_the_end(worker, groups)
    kill(groups)
    if anything_under_way(journal, first):
        wait_for_the_death(worker)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[4], str(journal), str(first)])


if __name__ == "__main__":
    main()
