"""The queues that exist, kept in memory; and how full they are, as the read model says, or else their owners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from cachetools import LRUCache, TTLCache

from jobledger.domain.identity import queue_stream, split_stream
from jobledger.domain.queue.commands import QueryQueue
from jobledger.domain.queue.events import QueueCreated, QueueUpdated
from jobledger.domain.queue.settings import DEFAULT_MAX_WAITING_BYTES, DEFAULT_QUEUE
from jobledger.domain.values import Code
from jobledger.projections.read_model import ReadModelUnavailableError
from jobledger.projections.rows import QueueRow
from jobledger.schemas.decoding import decoder
from jobledger.schemas.events import EventRecord
from jobledger.schemas.outcomes import Outcome
from jobledger.telemetry.service import StandingService

#: For this long what an owner has said of its queue is good enough.
FRESH_SECONDS = 1.0
#: For this long a queue that does not exist is not asked for again.
MISS_SECONDS = 1.0
#: The read model is asked first, since that costs the owners nothing; it is not waited for longer than this.
READ_MODEL_SECONDS = 1.0
#: For this long a read model that did not answer is left alone.
AWAY_SECONDS = 2.0
ANSWER_SECONDS = 2.0
MAX_QUEUES = 100_000
MAX_MISSES = 1_000

_Name = tuple[str, str]
#: Asks the read model: (tenant, name) -> its row; None when it has none.
Read = Callable[[str, str], Awaitable[QueueRow | None]]
#: Asks the owner of a stream: (stream, query, command id, seconds) -> its outcome; None when it has not answered.
Ask = Callable[[str, QueryQueue, str, float], Awaitable[Outcome | None]]


class QueueUnknownError(RuntimeError):
    """Whether the queue exists cannot be told now: its owner does not answer."""


class _Seen(msgspec.Struct):
    """What is of interest here of a queue's row, or of the answer of its owner."""

    waiting_bytes: int = 0
    max_waiting_bytes: int = DEFAULT_MAX_WAITING_BYTES


_decode_seen = decoder(_Seen)


@dataclass(slots=True)
class KnownQueue:
    """A queue's bound, and what waits in it: as of `looked_at` plus what this process has let in since."""

    max_waiting_bytes: int
    waiting_bytes: int = 0
    looked_at: float = -1_000.0
    #: Bytes that this process has ever let in.
    let_in_bytes: int = 0

    def let_in(self, size: int) -> None:
        """Count a payload that waits in the queue from now on."""
        self.waiting_bytes += size
        self.let_in_bytes += size


class QueueDirectory(StandingService):
    """Names by tenant. The aggregate decides; this is a courtesy at the edge.

    A queue that is known is told at once; how full it is, is looked up meanwhile for those who come next. Only a
    name that nobody has named before is waited for: a moment for the read model, then for the queue's owner.
    Queues come with the tail of the events, and when they are asked for.
    """

    def __init__(self, read: Read, ask: Ask, new_id: Callable[[], str], monotonic: Callable[[], float]) -> None:
        self._read = read
        self._ask = ask
        self._new_id = new_id
        self._monotonic = monotonic
        self._queues: LRUCache[_Name, KnownQueue] = LRUCache(MAX_QUEUES)
        #: Names that no queue had a moment ago.
        self._missed: TTLCache[_Name, None] = TTLCache(MAX_MISSES, MISS_SECONDS, monotonic)
        self._read_again_at = -1_000.0
        self._looking: dict[_Name, asyncio.Task[KnownQueue | None]] = {}

    async def stop(self) -> None:
        """End what is being looked up."""
        for task in [*self._looking.values()]:
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)
        await super().stop()

    def saw(self, record: EventRecord) -> None:
        """Take in an event of a queue from the tail."""
        if isinstance(record.data, QueueCreated | QueueUpdated):
            _, tenant, name = split_stream(record.originator_id)
            self.changed(tenant, name, record.data.max_waiting_bytes)

    def changed(self, tenant: str, name: str, max_waiting_bytes: int) -> None:
        """A queue exists, and that is its bound."""
        self._missed.pop((tenant, name), None)
        self._put((tenant, name), max_waiting_bytes)

    def _put(self, name: _Name, max_waiting_bytes: int) -> KnownQueue:
        known = self._queues.get(name)
        if known is None:
            known = self._queues[name] = KnownQueue(max_waiting_bytes)
        known.max_waiting_bytes = max_waiting_bytes
        return known

    async def find(self, tenant: str, name: str) -> KnownQueue | None:
        """The queue, or None if there is none; raises QueueUnknownError when its owner does not say."""
        key = (tenant, name)
        known = self._queues.get(key)
        if known is None and name == DEFAULT_QUEUE:
            known = self._put(key, DEFAULT_MAX_WAITING_BYTES)
        if known is not None:
            if self._monotonic() - known.looked_at >= FRESH_SECONDS:
                self._look_up(key)
            return known
        if key in self._missed:
            return None
        return await asyncio.shield(self._look_up(key))

    def _look_up(self, key: _Name) -> asyncio.Task[KnownQueue | None]:
        """However many want to know, the owner is asked once."""
        task = self._looking.get(key)
        if task is None:
            known = self._queues.get(key)
            look = self._look(key, known, known.let_in_bytes if known else 0)
            task = self._looking[key] = asyncio.create_task(look, name="queue-look-up")
            task.add_done_callback(lambda done: self._looked(key, done))
        return task

    def _looked(self, key: _Name, done: asyncio.Task[KnownQueue | None]) -> None:
        del self._looking[key]
        if not done.cancelled():
            done.exception()  # told to those who wait; for what is known already nobody does

    async def _look(self, key: _Name, before: KnownQueue | None, let_in_before: int) -> KnownQueue | None:
        try:
            seen = await self._see(key)
        except QueueUnknownError:
            if before is None:
                raise
            before.looked_at = self._monotonic()
            return before
        now = self._monotonic()
        if seen is not None:
            known = self._put(key, seen.max_waiting_bytes)
            # What was let in meanwhile may not have been seen yet.
            known.waiting_bytes = seen.waiting_bytes + known.let_in_bytes - let_in_before
            known.looked_at = now
            return known
        if before is not None:
            before.looked_at = now  # the read model is behind, or a default queue that nobody has used yet
            return before
        self._missed[key] = None
        return None

    async def _see(self, key: _Name) -> _Seen | None:
        """The queue as the read model or its owner sees it, None if there is none; raises QueueUnknownError."""
        if self._monotonic() >= self._read_again_at:
            try:
                async with asyncio.timeout(READ_MODEL_SECONDS):
                    row = await self._read(*key)
                return None if row is None else _Seen(row.waiting_bytes, row.max_waiting_bytes)
            except (ReadModelUnavailableError, TimeoutError):
                self._read_again_at = self._monotonic() + AWAY_SECONDS
        outcome = await self._ask(queue_stream(*key), QueryQueue(), self._new_id(), ANSWER_SECONDS)
        if outcome is not None and outcome.answer is not None:
            return _decode_seen(outcome.answer.data.encode())
        if (
            outcome is not None
            and outcome.rejection is not None
            and outcome.rejection.code is Code.NOT_FOUND_OR_EXPIRED
        ):
            return None
        raise QueueUnknownError(f"Neither the read model nor the owner of queue '{key[1]}' answers.")
