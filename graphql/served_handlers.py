"""Whether any worker serves a handler: a courtesy to those who submit under a name that nobody knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from cachetools import TLRUCache

from jobledger.domain.identity import queue_stream
from jobledger.domain.queue.commands import QueryQueue
from jobledger.domain.values import Code
from jobledger.schemas.decoding import decoder
from jobledger.schemas.outcomes import Outcome

#: A handler that was served is taken as served for this long; one that was not is asked for again after a moment.
SERVED_SECONDS = 30.0
UNSERVED_SECONDS = 1.0
#: The submission waits no longer for it once its own outcome is there; the answer is kept for the next one.
PATIENCE_SECONDS = 0.1
ANSWER_SECONDS = 2.0
MAX_KNOWN = 10_000

_Key = tuple[str, str, str]
#: Asks the owner of a stream: (stream, query, command id, seconds) -> its outcome; None when it has not answered.
Ask = Callable[[str, QueryQueue, str, float], Awaitable[Outcome | None]]


class _Seen(msgspec.Struct):
    """What of a queue's answer is of interest here; an owner of an earlier release leaves it out."""

    serving: int | None = None


_decode_seen = decoder(_Seen)


def _fresh_until(_key: _Key, served: bool, now: float) -> float:
    return now + (SERVED_SECONDS if served else UNSERVED_SECONDS)


class ServedHandlers:
    """Asks the queue's owner, at most once at a time for each handler; Postgres is never asked."""

    def __init__(self, ask: Ask, new_id: Callable[[], str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._new_id = new_id
        #: Whether a worker serves a handler.
        self._known: TLRUCache[_Key, bool] = TLRUCache(MAX_KNOWN, _fresh_until, monotonic)
        self._asking: dict[_Key, asyncio.Task[None]] = {}

    def look(self, tenant: str, queue: str, handler: str) -> None:
        """Begin to find out, unless it is known."""
        key = (tenant, queue, handler)
        if key not in self._known and key not in self._asking:
            task = self._asking[key] = asyncio.create_task(self._find_out(key), name="served-handlers")
            task.add_done_callback(lambda _done: self._asking.pop(key, None))

    async def warning(self, tenant: str, queue: str, handler: str) -> str | None:
        """What to say to who has submitted; None when a worker serves it, or when that is not known in time."""
        key = (tenant, queue, handler)
        if key in self._asking:
            await asyncio.wait({self._asking[key]}, timeout=PATIENCE_SECONDS)
        if self._known.get(key) is not False:
            return None
        return (
            f"No worker serves handler '{handler}' on queue '{queue}' now: the job waits until one does. "
            f"Is the name right?"
        )

    async def _find_out(self, key: _Key) -> None:
        tenant, queue, handler = key
        query = QueryQueue(handler=handler)
        outcome = await self._ask(queue_stream(tenant, queue), query, self._new_id(), ANSWER_SECONDS)
        if outcome is None:
            return
        if outcome.answer is not None:
            serving = _decode_seen(outcome.answer.data.encode()).serving
        else:  # a queue that nobody serves and nothing has come to yet
            absent = outcome.rejection is not None and outcome.rejection.code is Code.NOT_FOUND_OR_EXPIRED
            serving = 0 if absent else None
        if serving is None:
            return
        self._known[key] = serving > 0
