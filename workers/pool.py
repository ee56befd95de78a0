"""The pool of processes that run plain handlers: each can be killed alone and is replaced by a fresh one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService
from jobledger.workers.attempt import AttemptEnd, failure
from jobledger.workers.context import Checkpoint
from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.handler_logs import log_ids
from jobledger.workers.keeper import Keeper
from jobledger.workers.pool_protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    Cancel,
    Ended,
    LoadFailed,
    PoolMessage,
    Ready,
    Run,
    Saved,
    Setup,
    decode_for_worker,
    frame,
)

START_SECONDS = 60.0
KILL_SECONDS = 5.0
WATCH_SECONDS = 0.5
WARM_PROCESSES = 2
_ENDED = (asyncio.IncompleteReadError, ConnectionError)

log = get_logger()


class PoolProcess:
    """The worker's view of one process of the pool."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._killed = False
        self._watch: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it can take a call."""
        return not self._killed and self._process.poll() is None

    async def set_up(self, connection: socket.socket, setup: Setup) -> None:
        """Send the setup and wait until the handlers are loaded; raises HandlerLoadError."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        try:
            async with asyncio.timeout(START_SECONDS):
                self._send(setup)
                answer = await self._receive()
        except TimeoutError:
            raise HandlerLoadError(f"Loading the handlers took a pool process over {START_SECONDS:.0f} s.") from None
        except _ENDED:
            raise HandlerLoadError(f"A pool process ended while it loaded the handlers ({self._exit()}).") from None
        if isinstance(answer, LoadFailed):
            raise HandlerLoadError(answer.message)
        assert isinstance(answer, Ready)

    async def run(self, run: Run, save: Callable[[Checkpoint], None]) -> AttemptEnd:
        """One call from start to end. If the process dies on the way, it has really ended when this returns."""
        self._look(dead=False)
        try:
            self._send(run)
            while True:
                message = await self._receive()
                if isinstance(message, Ended):
                    return message.end
                if isinstance(message, Saved):
                    save(Checkpoint(message.checkpoint, message.progress))
        except _ENDED:
            on_purpose = self._killed
            await self.close()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what the handler had started and left behind
            if not on_purpose:
                log.error("pool_process_died", error=self._exit(), **log_ids(run.info))
            return failure("ProcessDied", f"The process of the handler died ({self._exit()}).")
        finally:
            if self._watch is not None:
                self._watch.cancel()

    def _look(self, dead: bool) -> None:
        """Notice the end of the process where its connection doesn't tell: a child of the handler may hold it open.

        It is cut at the second look, so that what the process had sent before its end is read.
        """
        if dead:
            self._writer.transport.abort()
            return
        ended = self._process.poll() is not None
        self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look, ended)

    def ask(self, reason: str) -> None:
        """Set the cancel flag of the running call."""
        if self.usable:
            self._send(Cancel(reason=reason))

    def kill(self) -> None:
        """End the process and what its handler has started, at once."""
        if self._killed or self._process.poll() is not None:
            return
        self._killed = True
        os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill it, if it still runs, and wait for its end; may be called twice."""
        if self._process.poll() is None:
            self.kill()
            try:
                await asyncio.to_thread(self._process.wait, KILL_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("pool_process_stuck", pid=self.pid)
        self._killed = True
        if hasattr(self, "_writer"):
            self._writer.close()

    def _exit(self) -> str:
        code = self._process.poll()
        if code is None:
            return "it still runs"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _send(self, message: PoolMessage) -> None:
        self._writer.write(frame(message))

    async def _receive(self) -> Ready | LoadFailed | Saved | Ended:
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise ConnectionError(f"A pool process sent {length} bytes in one message.")
        return decode_for_worker(await self._reader.readexactly(length))


class ProcessPool(StandingService):
    """Up to `size` processes, started when needed and kept; `lease_descriptor` leads to the shared deadline."""

    def __init__(self, setup: Setup, lease_descriptor: int, size: int, keeper: Keeper) -> None:
        self._setup = setup
        self._keeper = keeper
        self._lease = lease_descriptor
        self._idle: list[PoolProcess] = []
        self._all: set[PoolProcess] = set()
        self._size = size
        self._slots = asyncio.Semaphore(size)

    @property
    def processes(self) -> int:
        """Processes that live now."""
        return len(self._all)

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._all]

    async def start(self) -> None:
        """Start the first processes, so that the first task needn't wait; raises HandlerLoadError."""
        self._stand()
        self._idle += await asyncio.gather(*(self._spawn() for _ in range(min(WARM_PROCESSES, self._size))))

    async def stop(self) -> None:
        """Kill all processes."""
        processes, self._all, self._idle = self._all, set(), []
        await asyncio.gather(*(self._put_away(process) for process in processes))
        await super().stop()

    async def acquire(self) -> PoolProcess:
        """A process that is ready for a call, to be given back by `release`; waits while all are taken."""
        await self._slots.acquire()
        try:
            while self._idle:
                process = self._idle.pop()
                if process.usable:
                    return process
                await self._discard(process)
            return await self._spawn()
        except BaseException:
            self._slots.release()
            raise

    async def release(self, process: PoolProcess) -> None:
        """Give a process back after its call; one that was killed is dropped."""
        try:
            if process.usable:
                self._idle.append(process)
            else:
                await self._discard(process)
        finally:
            self._slots.release()

    async def _discard(self, process: PoolProcess) -> None:
        self._all.discard(process)
        await self._put_away(process)

    async def _put_away(self, process: PoolProcess) -> None:
        await process.close()
        self._keeper.ended(process.pid)

    async def _spawn(self) -> PoolProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            # The worker's own search path, before the first import: a file in the working directory hides nothing.
            code = (
                f"import sys; sys.path[:] = {self._setup.path!r}; from jobledger.workers.pool_child import main; main()"
            )
            command = [sys.executable, "-c", code, str(theirs.fileno()), str(self._lease)]
            # Its own session: a Ctrl-C on the terminal drains the worker and doesn't reach the handlers.
            popen = subprocess.Popen(  # noqa: ASYNC220 - returns once the program is started, within milliseconds
                command, pass_fds=(theirs.fileno(), self._lease), stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._keeper.began(popen.pid)
        process = PoolProcess(popen)
        self._all.add(process)
        try:
            await process.set_up(ours, self._setup)
        except BaseException:
            await asyncio.shield(self._discard(process))
            raise
        return process
