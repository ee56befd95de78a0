"""uvicorn as a part of a process: no signal handlers of its own, and one sentence when its port is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from jobledger.telemetry.health_server import ListenError, taken_sentence, warn_if_exposed
from jobledger.telemetry.logs import get_logger

GRACE_SECONDS = 3
BACKLOG = 1_024
#: Connections beyond this are answered 503.
MAX_CONNECTIONS = 4_000
MAX_WEBSOCKET_MESSAGE = 1024 * 1024

log = get_logger()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process has its own."""
        yield


class HttpServer:
    """Serves the application. `before_stop` ends what would keep connections open."""

    name = "http"

    def __init__(self, app: Starlette, host: str, port: int, before_stop: Callable[[], None]) -> None:
        self._host = host
        self.port = port
        self._before_stop = before_stop
        self._server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                limit_concurrency=MAX_CONNECTIONS,
                ws_max_size=MAX_WEBSOCKET_MESSAGE,
                timeout_graceful_shutdown=GRACE_SECONDS,
                server_header=False,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; raises ListenError when the address is taken or not ours."""
        listener = self._listen()
        self.port = listener.getsockname()[1]
        warn_if_exposed(self._host, self.port)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if self._task.done():
            await self._task
        log.info("listener_started", host=self._host, port=self.port)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it. Event loops set it only on sockets that name their protocol; without it an
            # answer of two packets on a kept connection waits 40 ms for the client's delayed acknowledgement.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind((self._host, self.port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise ListenError(taken_sentence(self._host, self.port, "JOBLEDGER_API_PORT", error)) from error
        listener.setblocking(False)
        return listener

    async def stop(self) -> None:
        """Let running requests end, at most 3 s; may be called twice."""
        task, self._task = self._task, None
        if task is None:
            return
        self._before_stop()
        self._server.should_exit = True
        await task

    async def wait(self) -> None:
        """Return when the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)
