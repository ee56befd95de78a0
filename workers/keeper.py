"""The worker's side of the process that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService
from jobledger.workers.journal import Journal

_PROGRAM = Path(__file__).with_name("keeper_program.py")
END_SECONDS = 1.0

log = get_logger()


class Keeper(StandingService):
    """A small process beside the worker. When the worker dies it kills the groups of processes that it was told of
    and reports the handlers that stand in the journal (`crash_report.py`). It ends with the worker.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the process."""
        self._stand()
        journal = self._journal
        # The worker's own search path, before the first import, as for the processes of the pool.
        code = f"import sys; sys.path[:] = {sys.path!r}; from jobledger.workers.crash_report import main; main()"
        places = [str(journal.descriptor), str(journal.first_place)]
        command = [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), *places, code]
        # Its own session: what is sent to the worker's group is not meant for it.
        self._process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program is started, within milliseconds
            command, stdin=subprocess.PIPE, pass_fds=(journal.descriptor,), start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Its process id; 0 before `start`."""
        return 0 if self._process is None else self._process.pid

    def began(self, group: int) -> None:
        """A group of processes is to end with the worker."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """It has ended by itself."""
        self._tell(f"-{group}\n")

    async def stop(self) -> None:
        """Let it end, and wait for that."""
        if self._process is not None:
            await asyncio.to_thread(self._wait_for, self._process)
        await super().stop()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return  # Kafka has not heard of the end of all handlers: it tells their jobs once this process has ended

    def _tell(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None, "start() first"
        try:
            os.write(self._process.stdin.fileno(), line.encode())
        except OSError as error:
            log.error("keeper_lost", error=str(error))
