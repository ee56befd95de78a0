"""GraphQL over HTTP, and subscriptions over graphql-transport-ws: many on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from jobledger.workers.client.errors import JobledgerError, Unavailable, error_from

SUBPROTOCOL = Subprotocol("graphql-transport-ws")
MAX_PER_CONNECTION = 80
MAX_CONNECTIONS = 20
MAX_ITEMS_AHEAD = 1_000
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
CONNECT_SECONDS = 10.0


class ConnectionDropped(Unavailable):
    """The connection to the API broke; whether it had done what was asked is not known."""


class Transport:
    """One API address. Raises Unavailable when it can't be reached, ConnectionDropped when it went away midway."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._endpoint = f"{url.rstrip('/')}/graphql"
        self._headers = dict(headers)
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=10)
        self._http = httpx.AsyncClient(headers=self._headers, timeout=timeout, limits=limits)
        self._channels: list[Channel] = []
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close()
        await self._http.aclose()

    async def execute(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """`data` of the answer; raises JobledgerError for GraphQL errors."""
        try:
            response = await self._http.post(
                self._endpoint,
                json={"query": query, "variables": variables},
                headers={"Accept": "application/graphql-response+json, application/json"},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(
                f"The API at {self._endpoint} can't be reached ({error}); start it, or set JOBLEDGER_API_URL.",
                "UNAVAILABLE",
            ) from error
        except httpx.HTTPError as error:
            raise ConnectionDropped(f"The API did not answer: {type(error).__name__} {error}", "UNAVAILABLE") from error
        return _data(response)

    async def subscribe(self, query: str, variables: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """`data` of each item, until the API ends it; raises ConnectionDropped when the connection breaks."""
        channel = await self._channel()
        async with contextlib.aclosing(channel.subscribe(query, variables)) as items:
            async for item in items:
                yield item

    async def _channel(self) -> Channel:
        async with self._opening:
            self._channels = [channel for channel in self._channels if channel.open]
            for channel in self._channels:
                if channel.active < MAX_PER_CONNECTION:
                    return channel
            if len(self._channels) >= MAX_CONNECTIONS:
                most = MAX_CONNECTIONS * MAX_PER_CONNECTION
                raise JobledgerError(
                    f"The client has {most} subscriptions already; watch fewer jobs at once.", "INVALID"
                )
            channel = await Channel.connect(self._endpoint.replace("http", "ws", 1), self._headers)
            self._channels.append(channel)
            return channel


def _data(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not ("data" in body or "errors" in body):
        text = response.text[:200]
        kind = Unavailable if response.status_code >= 500 else JobledgerError
        code = "UNAVAILABLE" if response.status_code >= 500 else f"HTTP_{response.status_code}"
        raise kind(f"The API answered {response.status_code}: {text}", code)
    if body.get("errors"):
        raise _graphql_error(body["errors"][0])
    data = body["data"]
    assert isinstance(data, dict)
    return data


def _graphql_error(error: Mapping[str, Any]) -> JobledgerError:
    extensions = error.get("extensions") or {}
    return error_from({"path": error.get("path"), **extensions, "message": error.get("message")})


class Channel:
    """A WebSocket that carries up to 80 subscriptions."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    @property
    def active(self) -> int:
        """Subscriptions on it."""
        return len(self._waiting)

    @property
    def open(self) -> bool:
        """Whether it can take another."""
        return not self._reading.done()

    @classmethod
    async def connect(cls, url: str, headers: Mapping[str, str]) -> Channel:
        """Open one; raises Unavailable."""
        try:
            socket = await connect(
                url,
                subprotocols=[SUBPROTOCOL],
                additional_headers=dict(headers),
                open_timeout=CONNECT_SECONDS,
                max_size=MAX_MESSAGE_BYTES,
                proxy=None,
            )
            await socket.send(json.dumps({"type": "connection_init", "payload": dict(headers)}))
            answer = json.loads(await asyncio.wait_for(socket.recv(), CONNECT_SECONDS))
        except (OSError, TimeoutError, WebSocketException) as error:
            raise Unavailable(f"No subscription at {url}: {type(error).__name__} {error}", "UNAVAILABLE") from error
        if answer.get("type") != "connection_ack":
            await socket.close()
            raise Unavailable(f"No subscription at {url}: it answered {answer.get('type')!r}.", "UNAVAILABLE")
        return cls(socket)

    async def close(self) -> None:
        """Close it; its subscriptions end with ConnectionDropped."""
        await self._socket.close()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def subscribe(self, query: str, variables: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Items of one subscription."""
        name = str(next(self._ids))
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_ITEMS_AHEAD)
        self._waiting[name] = queue
        try:
            await self._send({"id": name, "type": "subscribe", "payload": {"query": query, "variables": variables}})
            while True:
                message = await queue.get()
                if message["type"] == "complete":
                    return
                if message["type"] == "error":
                    raise _graphql_error(message["payload"][0])
                if message["type"] == "dropped":
                    raise ConnectionDropped("The connection to the API broke.", "UNAVAILABLE")
                payload = message["payload"]
                if payload.get("errors"):
                    raise _graphql_error(payload["errors"][0])
                yield payload["data"]
        finally:
            del self._waiting[name]
            if self.open:
                with contextlib.suppress(ConnectionDropped):  # then there is nothing to end
                    await self._send({"id": name, "type": "complete"})

    async def _send(self, message: Mapping[str, Any]) -> None:
        try:
            await self._socket.send(json.dumps(message))
        except WebSocketException as error:
            raise ConnectionDropped("The connection to the API broke.", "UNAVAILABLE") from error

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                message = json.loads(text)
                if message["type"] == "ping":
                    await self._send({"type": "pong"})
                elif message.get("id") in self._waiting:
                    await self._waiting[message["id"]].put(message)
        except (WebSocketException, ConnectionDropped):
            pass
        finally:
            for queue in list(self._waiting.values()):
                while queue.full():
                    queue.get_nowait()
                queue.put_nowait({"type": "dropped"})
