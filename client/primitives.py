"""What the asynchronous and the synchronous client do differently, in pairs: the generator of the one writes the other.

`AsyncX` and `x_async` are what the code in `asynchronous/` uses; in `synchronous/` stand `X` and `x` instead.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import stamina
from websockets.asyncio.client import ClientConnection as AsyncSocket
from websockets.asyncio.client import connect as _connect_async
from websockets.sync.client import ClientConnection as Socket
from websockets.sync.client import connect as _connect
from websockets.typing import Subprotocol

from jobledger.client.deadline import Deadline, Passing, pause_after

__all__ = [
    "AsyncCall",
    "AsyncInbox",
    "AsyncLock",
    "AsyncReading",
    "AsyncSocket",
    "Call",
    "Inbox",
    "Lock",
    "Reading",
    "Socket",
    "open_socket",
    "open_socket_async",
    "receive",
    "receive_async",
    "sleep",
    "sleep_async",
    "tries",
    "tries_async",
]

T = TypeVar("T")
AsyncCall = Callable[[], Awaitable[T]]
Call = Callable[[], T]
AsyncLock = asyncio.Lock
Lock = threading.Lock

SUBPROTOCOL = Subprotocol("graphql-transport-ws")
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_ITEMS_AHEAD = 1_000
DROPPED: dict[str, Any] = {"type": "dropped"}


async def sleep_async(seconds: float) -> None:
    """Let others run for a while."""
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    """Wait for a while."""
    time.sleep(seconds)


def tries_async(passing: Passing, deadline: Deadline) -> AsyncIterator[stamina.Attempt]:
    """Attempts, one after the other while such errors are raised, until the deadline; the last error is let through."""
    return aiter(stamina.retry_context(on=pause_after(passing, deadline), attempts=None, timeout=None))


def tries(passing: Passing, deadline: Deadline) -> Iterator[stamina.Attempt]:
    """Attempts, one after the other while such errors are raised, until the deadline; the last error is let through."""
    return iter(stamina.retry_context(on=pause_after(passing, deadline), attempts=None, timeout=None))


class AsyncInbox:
    """What came for one subscription: at most 1,000 messages ahead of its reader, then it ends.

    The reader still gets what is in it, then DROPPED, and asks again behind the last: a slow reader holds up no other
    that shares its connection.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._ended = False

    def put(self, message: dict[str, Any]) -> None:
        """Take in a message; never waits."""
        if self._ended:
            return
        if self._queue.qsize() >= MAX_ITEMS_AHEAD:
            self.end()
        else:
            self._queue.put_nowait(message)

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._queue.put_nowait(DROPPED)

    async def get(self, timeout: float | None) -> dict[str, Any]:
        """The next message; raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            return await self._queue.get()


class Inbox:
    """The same between threads."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ended = False

    def put(self, message: dict[str, Any]) -> None:
        """Take in a message; never waits."""
        if self._ended:
            return
        if self._queue.qsize() >= MAX_ITEMS_AHEAD:
            self.end()
        else:
            self._queue.put(message)

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._queue.put(DROPPED)

    def get(self, timeout: float | None) -> dict[str, Any]:
        """The next message; raises TimeoutError after `timeout` seconds."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None


class AsyncReading:
    """Work beside the caller: a task."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._task: asyncio.Future[None] = asyncio.ensure_future(work())

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    async def wait(self) -> None:
        """Until it has ended, however."""
        await asyncio.wait({self._task})


class Reading:
    """Work beside the caller: a thread that does not keep the program alive."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=work, name="jobledger-client", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it has ended."""
        self._thread.join()


async def open_socket_async(url: str, headers: Mapping[str, str], timeout: float) -> AsyncSocket:
    """A WebSocket for subscriptions; raises OSError, TimeoutError, WebSocketException."""
    return await _connect_async(
        url,
        subprotocols=[SUBPROTOCOL],
        additional_headers=dict(headers),
        open_timeout=timeout,
        max_size=MAX_MESSAGE_BYTES,
        proxy=None,
    )


def open_socket(url: str, headers: Mapping[str, str], timeout: float) -> Socket:
    """A WebSocket for subscriptions; raises OSError, TimeoutError, WebSocketException."""
    socket = _connect(
        url,
        subprotocols=[SUBPROTOCOL],
        additional_headers=dict(headers),
        open_timeout=timeout,
        max_size=MAX_MESSAGE_BYTES,
        proxy=None,
    )
    return socket.__enter__()  # newer versions of the library warn about one that is only returned


async def receive_async(socket: AsyncSocket, timeout: float) -> str | bytes:
    """The next message; raises TimeoutError, WebSocketException."""
    async with asyncio.timeout(timeout):
        return await socket.recv()


def receive(socket: Socket, timeout: float) -> str | bytes:
    """The next message; raises TimeoutError, WebSocketException."""
    return socket.recv(timeout)
