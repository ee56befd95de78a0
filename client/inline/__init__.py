"""Handlers run in this process, without any server: for unit tests of those who write handlers.

The job's own decisions (retries and their back-off, dead letter, cancel, checkpoints) are the real ones; queue,
worker, log and clock are played here. Time is virtual: a job that is due tomorrow runs when it is asked for.

`scripts/sync-client` writes `synchronous/` from `asynchronous/`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobledger.client.inline.asynchronous.client import AsyncInlineClient, AsyncInlineJob
from jobledger.client.inline.synchronous.client import InlineClient, InlineJob
from jobledger.workers.handler import Handler

__all__ = ["AsyncInlineClient", "AsyncInlineJob", "InlineClient", "InlineJob", "inline"]


class inline:
    """A client whose jobs run in this process; `start` sets the virtual clock (else it begins now).

        with inline() as client:
            assert client.submit(send_email, {"to": "a@b"}).result() == {"sent": True}

    With `async with` it is the twin of AsyncClient, and async handlers run in the loop of the test.
    """

    def __init__(self, *handlers: Handler[..., Any], start: datetime | None = None) -> None:
        self._handlers = handlers
        self._start = start

    def __enter__(self) -> InlineClient:
        return InlineClient(self._handlers, self._start)

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> AsyncInlineClient:
        return AsyncInlineClient(self._handlers, self._start)

    async def __aexit__(self, *_: object) -> None:
        pass
