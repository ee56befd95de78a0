"""The tail of `outcomes`: matches them with the commands that wait here, and remembers the last ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from cachetools import FIFOCache
from confluent_kafka import Message

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.event_offsets import LOOK_UP_SECONDS
from jobledger.eventlog.partitions import PartitionReader
from jobledger.eventlog.tail import RecordBounds, Tail
from jobledger.schemas.outcomes import Outcome, decode_outcome
from jobledger.telemetry.logs import get_logger

READ_BACK_MS = 10 * 60 * 1000
#: Outcomes that are remembered, and read back at a start, over all partitions.
MAX_REMEMBERED = 50_000

log = get_logger()


class Waiter:
    """Waits for the outcomes of some commands; `outcomes[i]` is that of `ids[i]` or None while it is unknown."""

    __slots__ = ("_done", "ids", "left", "outcomes")

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.outcomes: list[Outcome | None] = [None] * len(ids)
        self.left = len(ids)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, outcome: Outcome | None) -> None:
        """Take an outcome in; None: there will be none."""
        if self.outcomes[index] is None:
            self.outcomes[index] = outcome
            self.left -= 1
            if self.left == 0 and not self._done.done():
                self._done.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Return when all are known, or after `timeout` seconds."""
        await asyncio.wait([self._done], timeout=timeout)


class OutcomeTail(Tail):
    """Every api process reads all partitions of `outcomes`."""

    name = "outcomes"

    def __init__(self, config: ClientConfig, topic: str, partitions: int, clock_ms: Callable[[], int]) -> None:
        super().__init__(config, topic, partitions)
        self._clock_ms = clock_ms
        self._waiting: dict[str, list[tuple[Waiter, int]]] = {}
        self._known: FIFOCache[str, Outcome] = FIFOCache(MAX_REMEMBERED)

    def find_starts(self, reader: PartitionReader, bounds: RecordBounds) -> dict[int, int]:
        """Ten minutes back, or as many outcomes as are remembered."""
        each = max(1, MAX_REMEMBERED // self.partitions)
        began_ms = self._clock_ms() - READ_BACK_MS
        since = reader.since(self._topic, dict.fromkeys(bounds, began_ms), LOOK_UP_SECONDS)
        starts = {}
        for partition, (low, end) in bounds.items():
            asked = since.get(partition, -1)
            starts[partition] = max(low, end - each, end if asked < 0 else min(asked, end))
        return starts

    def forget(self) -> None:
        """Nothing: an outcome stays what it is."""

    def known(self, command_id: str) -> Outcome | None:
        """The first outcome of a command, if it came in the last minutes."""
        return self._known.get(command_id)

    def expect(self, ids: Sequence[str]) -> Waiter:
        """Register before sending; call `give_up` when done."""
        waiter = Waiter(ids)
        for index, command_id in enumerate(ids):
            self._waiting.setdefault(command_id, []).append((waiter, index))
        return waiter

    def give_up(self, waiter: Waiter) -> None:
        """Wait no longer for what this waiter has not got."""
        if waiter.left == 0:
            return
        for command_id in waiter.ids:
            places = [place for place in self._waiting.pop(command_id, ()) if place[0] is not waiter]
            if places:
                self._waiting[command_id] = places

    async def deliver(self, batch: list[Message]) -> None:
        """Match and remember."""
        for message in batch:
            value = message.value()
            try:
                outcome = decode_outcome(value or b"")
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.exception("request_failed", error=f"outcome {message.partition()}/{message.offset()}: {error}")
                continue
            for waiter, index in self._waiting.pop(outcome.command_id, ()):
                waiter.settle(index, outcome)
            if outcome.answer is None and outcome.command_id not in self._known:
                self._known[outcome.command_id] = outcome
