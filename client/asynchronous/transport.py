"""GraphQL over HTTP, and subscriptions: many on one connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.request import getproxies

import httpx

from jobledger.client.answers import GRAPHQL_PATH, PROBE, data_of, not_an_api, unreachable
from jobledger.client.asynchronous.channel import AsyncChannel
from jobledger.client.deadline import Deadline
from jobledger.client.errors import ConnectionDropped, JobledgerError
from jobledger.client.primitives import AsyncLock
from jobledger.client.tracing import trace_headers

MAX_PER_CONNECTION = 80
MAX_CONNECTIONS = 20
CONNECT_SECONDS = 10.0
PROBE_SECONDS = 5.0
_AWAY = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: What somebody who speaks another protocol makes of a request.
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError)


def needs_certificates(url: str) -> bool:
    """Whether TLS can come into play: to read the certificates of authorities takes longer than a whole command."""
    return not url.startswith("http://") or bool(getproxies())


class AsyncTransport:
    """One API address. Raises Unavailable when it can't be reached, ConnectionDropped when it went away midway."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._endpoint = url + GRAPHQL_PATH
        self._headers = dict(headers)
        self._has_trace = "traceparent" in {name.lower() for name in headers}
        self._timeout = timeout
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=10)
        self._http = httpx.AsyncClient(
            headers=self._headers, timeout=timeout, limits=limits, verify=needs_certificates(url)
        )
        self._met = False
        self._channels: list[AsyncChannel] = []
        self._opening = AsyncLock()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close()
        await self._http.aclose()

    async def execute(
        self, query: str, variables: Mapping[str, Any], deadline: Deadline | None = None
    ) -> dict[str, Any]:
        """`data` of the answer; raises JobledgerError for GraphQL errors, NotAnApi for another kind of server."""
        timeout = self._timeout if deadline is None else deadline.at_most(self._timeout)
        try:
            response = await self._post({"query": query, "variables": variables}, timeout)
        except _AWAY as error:
            raise unreachable(self._endpoint, error) from error
        except httpx.HTTPError as error:
            if not self._met and isinstance(error, _BROKEN) and await self._is_another(timeout):
                what = f"it does not speak HTTP ({error}); is it the port of Kafka or Postgres?"
                raise not_an_api(self._endpoint, what.rstrip("?")) from error
            late = isinstance(error, httpx.TimeoutException)
            how = f"within {timeout:g} s" if late else f"({type(error).__name__}: {error})"
            raise ConnectionDropped(f"The API at {self._endpoint} did not answer {how}.", "UNAVAILABLE") from error
        data = data_of(self._endpoint, response)
        self._met = True
        return data

    async def _post(self, body: Mapping[str, Any], timeout: float) -> httpx.Response:
        headers = {"Accept": "application/graphql-response+json, application/json"}
        if not self._has_trace:
            headers.update(trace_headers())
        return await self._http.post(self._endpoint, json=body, headers=headers, timeout=timeout)

    async def _is_another(self, timeout: float) -> bool:
        """Whether a harmless question breaks the connection too: an API that went away refuses it instead."""
        try:
            await self._post(PROBE, min(timeout, PROBE_SECONDS))
        except httpx.HTTPError as error:
            return isinstance(error, _BROKEN)
        return False

    async def subscribe(
        self, query: str, variables: Mapping[str, Any], deadline: Deadline | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """`data` of each item, until the API ends it; raises ConnectionDropped when the connection breaks.

        TimeoutError when `deadline` comes before the next item.
        """
        deadline = deadline or Deadline(None)
        channel, name = await self._reserve(deadline.at_most(CONNECT_SECONDS))
        async with aclosing(channel.subscribe(name, query, variables, deadline)) as items:
            async for item in items:
                yield item

    async def _reserve(self, timeout: float) -> tuple[AsyncChannel, str]:
        async with self._opening:
            self._channels = [channel for channel in self._channels if channel.open]
            for channel in self._channels:
                if channel.active < MAX_PER_CONNECTION:
                    return channel, channel.reserve()
            if len(self._channels) >= MAX_CONNECTIONS:
                most = MAX_CONNECTIONS * MAX_PER_CONNECTION
                raise JobledgerError(
                    f"The client has {most:,} subscriptions already; watch fewer jobs at once, or use as_completed.",
                    "INVALID",
                )
            channel = await AsyncChannel.connect(self._endpoint.replace("http", "ws", 1), self._headers, timeout)
            self._channels.append(channel)
            return channel, channel.reserve()
