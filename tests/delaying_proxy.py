"""A line to a real server that a test can make slow, hold up and cut."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

from psycopg.conninfo import conninfo_to_dict, make_conninfo

HOST = "127.0.0.1"


class DelayingProxy:
    """Forwards connections to a server on loopback; each answer comes `delay_seconds` later than the server gave it.

    `hold()` keeps everything that comes from then on until `release()`; `cut()` ends all connections and refuses
    new ones until `restore()`.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.restore()

    async def stop(self) -> None:
        self.release()
        await self.cut()

    def hold(self) -> None:
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def restore(self) -> None:
        self._server = await asyncio.start_server(self._connected, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection(HOST, self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, ours}
        for pump in (self._pump(reader, ours, self.questions), self._pump(theirs, writer, self.answers)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pieces: Callable[[asyncio.StreamReader], AsyncIterator[bytes]],
    ) -> None:
        delayed = pieces == self.answers
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async for piece in pieces(reader):
                if delayed and self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def questions(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """What goes to the server, piece by piece."""
        while data := await reader.read(65536):
            yield data

    async def answers(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """What comes from the server, piece by piece."""
        while data := await reader.read(65536):
            yield data


class KafkaProxy(DelayingProxy):
    """In front of a broker, which tells clients its own address: in its answers the proxy's stands instead."""

    async def answers(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Whole answers: four bytes of length, and the rest. Both addresses have the same length in them."""
        host = HOST.encode()
        there, here = host + struct.pack(">i", self._to), host + struct.pack(">i", self.port)
        while True:
            head = await reader.readexactly(4)
            yield head + (await reader.readexactly(struct.unpack(">i", head)[0])).replace(there, here)


@contextlib.asynccontextmanager
async def postgres_line(dsn: str) -> AsyncIterator[tuple[str, DelayingProxy]]:
    """A DSN that goes through a proxy, and the proxy."""
    given = conninfo_to_dict(dsn)
    proxy = DelayingProxy(int(str(given["port"])))
    await proxy.start()
    try:
        yield make_conninfo(dsn, host=HOST, port=proxy.port), proxy
    finally:
        await proxy.stop()


@contextlib.asynccontextmanager
async def kafka_line(bootstrap_servers: str) -> AsyncIterator[tuple[str, KafkaProxy]]:
    """Bootstrap servers that go through a proxy, and the proxy."""
    proxy = KafkaProxy(int(bootstrap_servers.rpartition(":")[2]))
    await proxy.start()
    try:
        yield f"{HOST}:{proxy.port}", proxy
    finally:
        await proxy.stop()
