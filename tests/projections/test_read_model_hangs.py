"""A Postgres that neither answers nor refuses, as a frozen machine or a network that swallows packets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from structlog.testing import capture_logs

from jobledger.projections import read_model
from jobledger.projections.migrate import migrate
from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError

pytestmark = pytest.mark.postgres


class Line:
    """A connection to Postgres that can be held up."""

    def __init__(self, dsn: str) -> None:
        given = psycopg.conninfo.conninfo_to_dict(dsn)
        self._to = str(given["host"]), int(str(given["port"]))
        self._given = given
        self.open = asyncio.Event()
        self.open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                await self.open.wait()
                writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(*self._to)
        for pair in ((reader, ours), (theirs, writer)):
            task = asyncio.create_task(self._pump(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def dsn(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield psycopg.conninfo.make_conninfo(**{**self._given, "host": host, "port": port})  # type: ignore[arg-type]
        finally:
            self.open.set()
            server.close()
            await asyncio.wait_for(asyncio.gather(*self._tasks), 30)  # the pool is closed: each line has its end


async def test_a_postgres_that_hangs_holds_up_no_reader(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query ends with a reason, a snapshot too, one that is given up at once; afterwards all goes on, with a line."""
    await asyncio.to_thread(migrate, postgres_dsn, "jobledger")
    line = Line(postgres_dsn)
    with capture_logs() as lines:
        await _hang(line, monkeypatch)
    told = [one["event"] for one in lines if one["event"].startswith("db_connection")]
    assert told == ["db_connection_lost", "db_connection_restored"]


async def _hang(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line.dsn() as dsn:
        model = ReadModel(dsn, min_size=2, max_size=2)
        await model.start()
        await model.ping()
        monkeypatch.setattr(read_model, "ANSWER_SECONDS", 1.0)
        line.open.clear()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await model.ping()
        with pytest.raises(ReadModelUnavailableError, match="Postgres"):
            await model.ping()
        with pytest.raises(ReadModelUnavailableError, match="Postgres"):
            async with model.snapshot():
                pass
        assert time.monotonic() - began < 9
        line.open.set()
        monkeypatch.undo()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(ReadModelUnavailableError):
                    assert await model.ping() > 0
                    break
        await model.stop()
