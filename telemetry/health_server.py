"""Serves `/health/live`, `/health/ready`, `/health/status` and `/metrics`: Starlette routes, and a server of their own.

That server has `/log-levels` too.

Each role runs `HealthServer`; the api mounts `health_routes` beside GraphQL too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger.telemetry.health import Answer, Health
from jobledger.telemetry.health_protocol import HealthProtocol
from jobledger.telemetry.http_server import HttpServer
from jobledger.telemetry.log_levels_page import PATH, LogLevelsPage
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics

GRACE_SECONDS = 1
"""What is being answered has this long when the server stops."""

log = get_logger()


def health_routes(health: Health, metrics: Metrics) -> list[Route]:
    """The answers to GET and HEAD; one whose making fails is 500 and logged."""

    async def live(_: Request) -> Response:
        return _json(health.live())

    async def ready(_: Request) -> Response:
        return _json(await health.ready())

    async def status(_: Request) -> Response:
        return _json(await health.status())

    async def scrape(request: Request) -> Response:
        body, content_type = metrics.render(request.headers.get("accept", ""))
        return _response(200, content_type, body)

    endpoints = {"/health/live": live, "/health/ready": ready, "/health/status": status, "/metrics": scrape}
    return [Route(path, _answered(endpoint), methods=["GET"]) for path, endpoint in endpoints.items()]


def _answered(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception:  # a broken collector must not kill the connection without an answer
            log.exception("request_failed")
            return _plain(500, "Internal error; see the log.")

    return answer


def health_app(health: Health, metrics: Metrics) -> Starlette:
    """The routes alone; each answer closes its connection."""
    routes = [*health_routes(health, metrics), *LogLevelsPage().routes()]

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405 and request.url.path.startswith(f"{PATH}/"):
            return _plain(405, "Only PUT and DELETE.", error.headers)
        if error.status_code == 405:
            return _plain(405, "Only GET and HEAD.", error.headers)
        return _plain(404, f"Nothing here; try {', '.join(route.path for route in routes)}.")

    app = Starlette(routes=routes, exception_handlers={404: refused, 405: refused})
    app.router.redirect_slashes = False
    return app


def _json(answer: Answer) -> Response:
    status, body = answer
    return _response(status, "application/json", orjson.dumps(body, default=str))


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return _response(status, "text/plain; charset=utf-8", text.encode() + b"\n", headers)


def _response(status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    # The type as a header: Starlette would add a second charset to Prometheus's.
    return Response(body, status, {**(headers or {}), "content-type": content_type, "cache-control": "no-store"})


class HealthServer(HttpServer):
    """The health server of a process; its connections are bounded as `HealthProtocol` says."""

    name = "HealthServer"

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        *,
        host: str = "127.0.0.1",
        port: int = 9090,
        setting: str = "JOBLEDGER_HEALTH_PORT",
    ) -> None:
        super().__init__(
            health_app(health, metrics),
            host,
            port,
            setting,
            http=HealthProtocol,
            ws="none",
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
