"""Serves `/health/live`, `/health/ready`, `/health/status` and `/metrics`: a small HTTP server, and Starlette routes.

Roles without a web framework of their own (scheduler, projector, worker) run `HealthServer`; the api mounts
`health_routes`. Both answer from `respond`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, NamedTuple

import orjson

from jobledger.telemetry.health import Health
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from starlette.routing import Route

MAX_HEAD = 16 * 1024
"""The longest request head in bytes."""
MAX_CONNECTIONS = 64
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive and for its answer to be taken."""

_PATHS = ("/health/live", "/health/ready", "/health/status", "/metrics")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
_REASONS |= {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}

log = get_logger()


class Response(NamedTuple):
    """An answer without transport."""

    status: int
    content_type: str
    body: bytes


class ListenError(Exception):
    """The listener can't have its address; the text is one sentence for the operator."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_if_exposed(host: str, port: int) -> None:
    """Log `listener_exposed` if a listener on `host` can be reached from elsewhere."""
    if not is_loopback(host):
        log.warning("listener_exposed", host=host, port=port)


def taken_sentence(host: str, port: int, setting: str, error: OSError) -> str:
    """The sentence that tells the operator why a listener didn't start and what to do."""
    reason = (error.strerror or str(error)).lower()
    return f"Cannot listen on {host}:{port} ({reason}); stop what uses it or set {setting} to another value."


async def respond(path: str, accept: str, health: Health, metrics: Metrics) -> Response:
    """The answer to GET `path`; 404 with the known paths for others."""
    if path == "/metrics":
        body, content_type = metrics.render(accept)
        return Response(200, content_type, body)
    match path:
        case "/health/live":
            status, answer = health.live()
        case "/health/ready":
            status, answer = await health.ready()
        case "/health/status":
            status, answer = await health.status()
        case _:
            return _plain(404, f"Nothing here; try {', '.join(_PATHS)}.")
    return Response(status, "application/json", orjson.dumps(answer, default=str))


def _plain(status: int, text: str) -> Response:
    return Response(status, "text/plain; charset=utf-8", text.encode() + b"\n")


def health_routes(health: Health, metrics: Metrics) -> list[Route]:
    """The same answers as routes for a Starlette application."""
    # Imported here: only the api pays for the framework.
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import Response as StarletteResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def endpoint(request: Request) -> StarletteResponse:
        answer = await respond(request.url.path, request.headers.get("accept", ""), health, metrics)
        # As a header: Starlette would add a second charset to Prometheus's content type.
        headers = {"content-type": answer.content_type, "cache-control": "no-store"}
        return StarletteResponse(answer.body, answer.status, headers)

    return [Route(path, endpoint, methods=["GET"]) for path in _PATHS]


class HealthServer:
    """HTTP/1.1 server for GET and HEAD, one request a connection, bounded in size, time and number of connections."""

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        *,
        host: str = "127.0.0.1",
        port: int = 9090,
        setting: str = "JOBLEDGER_HEALTH_PORT",
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._host = host
        self._port = port
        self._setting = setting
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port listened on; the real one after `start` if 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Listen; raises `ListenError` if the address is taken or not ours."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=MAX_HEAD)
        except OSError as error:
            raise ListenError(taken_sentence(self._host, self._port, self._setting, error)) from error
        self._port = self._server.sockets[0].getsockname()[1]
        warn_if_exposed(self._host, self._port)
        log.info("listener_started", host=self._host, port=self._port)

    async def stop(self) -> None:
        """Close the listener and what is open; may be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) > MAX_CONNECTIONS:
                await _send(writer, "GET", _plain(503, "Too many connections; try again."))
                return
            await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()  # the peer is gone or too slow, or we are stopping: nothing left to tell it
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = "GET"
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            method, path, accept = _parse(head)
            if method in {"GET", "HEAD"}:
                response = await respond(path, accept, self._health, self._metrics)
            else:
                response = _plain(405, "Only GET and HEAD.")
        except TimeoutError:
            response = _plain(408, "The request did not arrive in time.")
        except asyncio.LimitOverrunError:
            response = _plain(431, f"The request head is longer than {MAX_HEAD} bytes.")
        except (asyncio.IncompleteReadError, ValueError):
            response = _plain(400, "Not an HTTP/1.1 request.")
        except Exception:  # a broken collector must not kill the connection without an answer
            log.exception("request_failed")
            response = _plain(500, "Internal error; see the log.")
        async with asyncio.timeout(REQUEST_TIMEOUT):
            await _send(writer, method, response)


def _parse(head: bytes) -> tuple[str, str, str]:
    """Method, path and Accept of a request head; raises `ValueError` if it isn't one."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    headers = (line.partition(":") for line in lines if line)
    accept = next((value.strip() for name, _, value in headers if name.strip().lower() == "accept"), "")
    return method, target.partition("?")[0], accept


async def _send(writer: asyncio.StreamWriter, method: str, response: Response) -> None:
    head = (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\n"
        f"content-type: {response.content_type}\r\n"
        f"content-length: {len(response.body)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode("latin-1") + (b"" if method == "HEAD" else response.body))
    await writer.drain()
