"""The listener of GraphQL: its bounds."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette

from jobledger.telemetry.http_server import HttpServer

GRACE_SECONDS = 3
#: Connections beyond this are answered 503.
MAX_CONNECTIONS = 4_000
MAX_WEBSOCKET_MESSAGE = 1024 * 1024


def graphql_server(app: Starlette, host: str, port: int, before_stop: Callable[[], None]) -> HttpServer:
    """Serves the application of an api. `before_stop` ends what would keep connections open."""
    return HttpServer(
        app,
        host,
        port,
        "JOBLEDGER_API_PORT",
        before_stop=before_stop,
        http="httptools",
        ws="websockets-sansio",
        limit_concurrency=MAX_CONNECTIONS,
        ws_max_size=MAX_WEBSOCKET_MESSAGE,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
