"""HTTP/1.1 of the health server: uvicorn's, with bounds that it has none for, since anybody may connect."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 16 * 1024
"""The longest request head in bytes."""
MAX_CONNECTIONS = 64
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive and for its answer to be taken."""

#: What strangers send is answered, not told: each line of the log would be theirs to write.
_QUIET = logging.getLogger("uvicorn.error.health")
_QUIET.setLevel(logging.ERROR)


class HealthProtocol(HttpToolsProtocol):
    """One request a connection, whose answer says `connection: close`; bounded in size, time and number."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.logger = _QUIET
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refused when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "Too many connections; try again.")
        else:
            self._within(REQUEST_TIMEOUT, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any longer."""
        self._no_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes after the head is ignored: no answer depends on it."""
        if self._answering:
            return
        head = data[: MAX_HEAD - self._head_bytes]
        self._head_bytes += len(head)
        super().data_received(head)
        if self._head_bytes >= MAX_HEAD and not self._answering:
            self._refuse(431, f"The request head is longer than {MAX_HEAD} bytes.")

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may close its side once it has asked; it gets its answer."""
        if not self._answering:
            self.send_400_response("")
        return True

    def on_headers_complete(self) -> None:
        """The request has arrived in time."""
        super().on_headers_complete()
        self.cycle.keep_alive = False
        self._no_timer()

    def on_response_complete(self) -> None:
        """The answer is to be taken in time too."""
        super().on_response_complete()
        self._within(REQUEST_TIMEOUT, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read."""
        self._refuse(400, "Not an HTTP/1.1 request.")

    @property
    def _answering(self) -> bool:
        return self.cycle is not None or self.transport.is_closing()

    def _late(self) -> None:
        self._refuse(408, "The request did not arrive in time.")

    def _refuse(self, status: int, text: str) -> None:
        body = text.encode() + b"\n"
        head = f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(
            STATUS_LINE[status] + head.encode() + b"cache-control: no-store\r\nconnection: close\r\n\r\n" + body
        )
        self.transport.close()
        self._within(REQUEST_TIMEOUT, self.transport.abort)

    def _within(self, seconds: float, then: Any) -> None:
        self._no_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
