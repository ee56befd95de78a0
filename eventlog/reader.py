"""Reading partitions of a topic without a group: api tails, worker inboxes, heartbeats, recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Message

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.partitions import PartitionReader, Taken
from jobledger.telemetry.service import ThreadService

Deliver = Callable[[list[Message]], Awaitable[None]]
POLL_SECONDS = 0.1  # a stop waits for a half of it


class LogReader(ThreadService):
    """Reads partitions in a thread of its own and hands batches to an async function, one at a time.

    The next poll waits until `deliver` has returned: a slow reader slows itself only. An error of `deliver`
    or of the broker that is final ends the reader; `wait()` then raises it.
    """

    def __init__(
        self,
        config: ClientConfig,
        topic: str,
        starts: Mapping[int, int],
        deliver: Deliver,
        ends: Mapping[int, int] | None = None,
    ) -> None:
        """`ends`: behind the last record of each partition, see `PartitionReader.record_bounds`.

        Where a transaction was written last the end of the partition is another, met half a second later.
        """
        super().__init__()
        self._config = config
        self._topic = topic
        self._starts = starts
        self._deliver = deliver
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: dict[int, int] = dict(ends or {})
        self._behind = set(starts)

    @property
    def caught_up(self) -> bool:
        """Whether all has been delivered that stood in the partitions when the reader began.

        Told by the records that came since, too: a partition that is written to all the time may never show
        its end.
        """
        return not self._behind

    async def start(self) -> None:
        """Fix the start offsets (OFFSET_END and OFFSET_BEGINNING are resolved now) and begin to read."""
        self._loop = asyncio.get_running_loop()
        reader = PartitionReader(self._config)
        resolving = asyncio.ensure_future(asyncio.to_thread(self._resolve, reader))
        try:
            reader.assign(self._topic, await asyncio.shield(resolving))
            self._begin(lambda: self._run(reader), f"read-{self._topic}")
        except BaseException:
            if resolving.done():
                await asyncio.to_thread(reader.close)
            else:  # given up in the middle of a question: the client is let go of when its thread has come back
                resolving.add_done_callback(lambda done: self._let_go(done, reader))
            raise

    def _let_go(self, resolving: asyncio.Future[dict[int, int]], reader: PartitionReader) -> None:
        if not resolving.cancelled():
            resolving.exception()  # nobody asks for it any more
        assert self._loop is not None
        self._loop.run_in_executor(None, reader.close)

    def _resolve(self, reader: PartitionReader) -> dict[int, int]:
        resolved = {}
        for partition, start in self._starts.items():
            resolved[partition] = start
            if partition not in self._ends:
                low, high = reader.bounds(self._topic, partition)
                self._ends[partition] = high
                resolved[partition] = high if start == OFFSET_END else low if start == OFFSET_BEGINNING else start
            if resolved[partition] >= self._ends[partition]:
                self._behind.discard(partition)  # told by nobody before the first empty fetch is over: half a second
        return resolved

    def _run(self, reader: PartitionReader) -> None:
        try:
            while not self._stopping.is_set():
                taken = reader.take(POLL_SECONDS)
                if taken.records:
                    self._hand_over(taken.records)
                self._behind -= self._reached(taken)
        except Exception:
            if not self._stopping.is_set():  # else it was about to end anyway
                raise
        finally:
            reader.close()

    def _reached(self, taken: Taken) -> set[int]:
        """The partitions of which the end, as it stood at the start, is reached with a batch."""
        if not self._behind:
            return set()
        passed = {m.partition() or 0 for m in taken.records if (m.offset() or 0) + 1 >= self._ends[m.partition() or 0]}
        return passed | taken.ends.keys()

    def _hand_over(self, batch: list[Message]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._call(batch), self._loop).result()

    async def _call(self, batch: list[Message]) -> None:
        await self._deliver(batch)
