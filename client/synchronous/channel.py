# Written by scripts/sync-client from client/asynchronous/channel.py: change that, and run it again.
"""A WebSocket with many subscriptions on it, over graphql-transport-ws."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Generator, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from jobledger.client.answers import graphql_error, not_an_api
from jobledger.client.deadline import Deadline
from jobledger.client.errors import ConnectionDropped, Unauthenticated, Unavailable
from jobledger.client.primitives import (
    Inbox,
    Reading,
    Socket,
    open_socket,
    receive,
)

#: The close code for a `connection_init` that is turned down.
FORBIDDEN = 4403


class Channel:
    """One WebSocket. Subscribers have an inbox each, which one reader fills."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._inboxes: dict[str, Inbox] = {}
        self._reading = Reading(self._read)

    @property
    def active(self) -> int:
        """Subscriptions on it."""
        return len(self._inboxes)

    @property
    def open(self) -> bool:
        """Whether it can take another."""
        return not self._reading.done

    @classmethod
    def connect(cls, url: str, headers: Mapping[str, str], timeout: float) -> Channel:
        """Open one within `timeout` seconds; raises Unavailable, and NotAnApi."""
        try:
            socket = open_socket(url, headers, timeout)
        except InvalidStatus as error:
            status = error.response.status_code
            if status < 500:
                raise not_an_api(url, f"it answered {status} to a subscription") from error
            raise Unavailable(f"No subscription at {url}: it answered {status}.", "UNAVAILABLE") from error
        except (OSError, TimeoutError, WebSocketException) as error:
            raise Unavailable(f"No subscription at {url}: {type(error).__name__} {error}", "UNAVAILABLE") from error
        try:
            socket.send(json.dumps({"type": "connection_init", "payload": dict(headers)}))
            answer = json.loads(receive(socket, timeout))
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == FORBIDDEN:
                raise Unauthenticated(
                    f"{url} takes no subscription without a key that it accepts; set JOBLEDGER_API_KEY.",
                    "UNAUTHENTICATED",
                ) from error
            raise Unavailable(f"No subscription at {url}: {type(error).__name__} {error}", "UNAVAILABLE") from error
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:
            socket.close()
            raise Unavailable(f"No subscription at {url}: {type(error).__name__} {error}", "UNAVAILABLE") from error
        if answer.get("type") != "connection_ack":
            socket.close()
            raise Unavailable(f"No subscription at {url}: it answered {answer.get('type')!r}.", "UNAVAILABLE")
        return cls(socket)

    def close(self) -> None:
        """Close it; its subscriptions end with ConnectionDropped."""
        self._socket.close()
        self._reading.wait()

    def reserve(self) -> str:
        """The name of a subscription to come, which counts from now on."""
        name = str(next(self._ids))
        self._inboxes[name] = Inbox()
        return name

    def subscribe(
        self, name: str, query: str, variables: Mapping[str, Any], deadline: Deadline
    ) -> Generator[dict[str, Any], None]:
        """Items of the subscription that was reserved as `name`; raises ConnectionDropped, and TimeoutError."""
        inbox = self._inboxes[name]
        try:
            self._send({"id": name, "type": "subscribe", "payload": {"query": query, "variables": variables}})
            while True:
                message = inbox.get(deadline.left())
                if message["type"] == "complete":
                    return
                if message["type"] == "error":
                    raise graphql_error(message["payload"])
                if message["type"] == "dropped":
                    raise ConnectionDropped("The connection to the API broke.", "UNAVAILABLE")
                payload = message["payload"]
                if payload.get("errors"):
                    raise graphql_error(payload["errors"])
                yield payload["data"]
        finally:
            del self._inboxes[name]
            if self.open:
                with contextlib.suppress(ConnectionDropped):  # then there is nothing to end
                    self._send({"id": name, "type": "complete"})

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(message))
        except WebSocketException as error:
            raise ConnectionDropped("The connection to the API broke.", "UNAVAILABLE") from error

    def _read(self) -> None:
        try:
            for text in self._socket:
                message = json.loads(text)
                if message["type"] == "ping":
                    self._send({"type": "pong"})
                elif inbox := self._inboxes.get(message.get("id")):
                    inbox.put(message)
        except (WebSocketException, ConnectionDropped):
            pass  # the subscribers are told below
        except (ValueError, KeyError):  # no message of the protocol: nothing after it can be trusted
            self._socket.close()
        finally:
            for inbox in list(self._inboxes.values()):
                inbox.end()
