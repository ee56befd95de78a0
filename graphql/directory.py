"""The queues that exist, kept in memory; and how full they are, as the read model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobledger.domain.identity import split_stream
from jobledger.domain.queue import DEFAULT_MAX_WAITING_BYTES, DEFAULT_QUEUE
from jobledger.domain.queue_events import QueueCreated, QueueUpdated
from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError
from jobledger.schemas.events import EventRecord

#: For this long a look at the read model is good enough.
FRESH_SECONDS = 0.25
MAX_QUEUES = 100_000
PAGE = 1_000


@dataclass(slots=True)
class KnownQueue:
    """A queue's bound, and what waits in it: as of `looked_at` plus what this process has let in since."""

    max_waiting_bytes: int
    waiting_bytes: int = 0
    looked_at: float = -1.0


class QueueDirectory:
    """Names by tenant. The aggregate decides; this is a courtesy at the edge."""

    def __init__(self, model: ReadModel, tenant: str, monotonic: Callable[[], float]) -> None:
        self._model = model
        self._tenant = tenant
        self._monotonic = monotonic
        self._queues: dict[tuple[str, str], KnownQueue] = {}
        self._missed: dict[tuple[str, str], float] = {}

    async def start(self) -> None:
        """Load what the read model has, if it answers: what is missing is looked up when it is asked for."""
        after: str | None = None
        try:
            while len(self._queues) < MAX_QUEUES:
                page = await self._model.queues(self._tenant, first=PAGE, after=after)
                for row in page.items:
                    self._put(row.tenant, row.name, row.max_waiting_bytes)
                if not page.has_next:
                    return
                after = page.items[-1].name
        except ReadModelUnavailableError:
            return

    async def stop(self) -> None:
        """Nothing to stop."""

    def saw(self, record: EventRecord) -> None:
        """Take in an event of a queue from the tail."""
        if isinstance(record.data, QueueCreated | QueueUpdated):
            _, tenant, name = split_stream(record.originator_id)
            self._put(tenant, name, record.data.max_waiting_bytes)

    def _put(self, tenant: str, name: str, max_waiting_bytes: int) -> None:
        known = self._queues.get((tenant, name))
        if known is None:
            self._queues[tenant, name] = KnownQueue(max_waiting_bytes)
        else:
            known.max_waiting_bytes = max_waiting_bytes

    async def find(self, tenant: str, name: str) -> KnownQueue | None:
        """The queue with a fresh look at what waits in it, or None if there is none.

        Raises ReadModelUnavailableError only when that leaves open whether the queue exists.
        """
        known = self._queues.get((tenant, name))
        if known is not None and self._monotonic() - known.looked_at < FRESH_SECONDS:
            return known
        if known is None and self._monotonic() - self._missed.get((tenant, name), -1.0) < FRESH_SECONDS:
            return None
        try:
            return await self._look(tenant, name)
        except ReadModelUnavailableError:
            if known is None and name == DEFAULT_QUEUE:
                known = KnownQueue(DEFAULT_MAX_WAITING_BYTES)
            if known is None:
                raise
            return known

    async def _look(self, tenant: str, name: str) -> KnownQueue | None:
        row = await self._model.queue(tenant, name)
        now = self._monotonic()
        known = self._queues.get((tenant, name))
        if row is None and known is None and name != DEFAULT_QUEUE:
            self._remember_miss(tenant, name, now)
            return None
        if known is None:
            known = KnownQueue(row.max_waiting_bytes if row else DEFAULT_MAX_WAITING_BYTES)
            self._queues[tenant, name] = known
        known.waiting_bytes = row.waiting_bytes if row else 0
        known.looked_at = now
        return known

    def _remember_miss(self, tenant: str, name: str, now: float) -> None:
        if len(self._missed) > 1_000:
            self._missed.clear()
        self._missed[tenant, name] = now
