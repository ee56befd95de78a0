"""uvicorn as a part of a process: no signal handlers of its own, no work while idle, an end that is told at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from jobledger.telemetry.listening import listen, warn_if_exposed
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import TaskService

DATE_SECONDS = 1.0
"""How often the date header is made anew."""

log = get_logger()


class _Server(uvicorn.Server):
    """uvicorn's server, told of its end by an event instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Until the end, which comes when it is wanted."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ending.wait(), DATE_SECONDS if self.config.date_header else None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Give connections the time of the configuration to end; without any there is nothing to wait for."""
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:
            for server in self.servers:
                server.close()
                await server.wait_closed()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


class HttpServer(TaskService):
    """Serves an application on uvicorn.

    `setting` is the variable that names the port; `options` are those of `uvicorn.Config`. `before_stop` ends what
    would keep connections open.
    """

    name = "http"

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        setting: str,
        *,
        before_stop: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self._host = host
        self.port = port
        self._setting = setting
        self._before_stop = before_stop
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            **options,
        )
        self._server: _Server | None = None

    async def start(self) -> None:
        """Listen; raises ListenError when the address is taken or not ours. `port` is the real one from then on."""
        self._check_new()
        listener = listen(self._host, self.port, self._setting)
        self.port = listener.getsockname()[1]
        warn_if_exposed(self._host, self.port)
        self._server = _Server(self._config)
        serving = self._begin(self._server.serve(sockets=[listener]), self.name)
        up = asyncio.ensure_future(self._server.listening.wait())
        await asyncio.wait([serving, up], return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            await serving
            raise RuntimeError(f"The server on {self._host}:{self.port} has ended before it listened.")
        log.info("listener_started", host=self._host, port=self.port)

    async def stop(self) -> None:
        """Close the listener and let running requests end within the time of the configuration; may be called twice."""
        server, self._server = self._server, None
        if server is None or self._task is None:
            return
        self._before_stop()
        server.should_exit = True
        server.ending.set()
        try:
            await asyncio.wait([self._task])
        finally:
            await super().stop()
