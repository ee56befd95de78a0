"""When the streams of a partition, and records of their parts, want to be woken: at most one time each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

#: Entries that nobody wants any more may be as many as those that are wanted, and this many beside.
_SPARE = 1_000
#: Entries that a sweep goes through with each change: a million of them never hold up a turn of the loop.
_SWEPT_AT_ONCE = 8


class Timers:
    """Heaps of (due in ms, stream). What is changed or taken off stays in them until it comes up, or is swept.

    Most timers never fire: an attempt has a limit of a day and ends within seconds. A sweep begins when more than half
    of the entries are of no use; it takes over the wanted ones into a new heap, some with each change, and comes to its
    end before the next one is due. The old heap gives up its last entry each time, which leaves it a heap.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._old: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(due, stream) of each timer, in no order."""
        return ((due, stream) for stream, due in self._due.items())

    @property
    def held(self) -> int:
        """Entries of the heaps, swept or not."""
        return len(self._heap) + len(self._old)

    def load(self, timers: Iterable[tuple[int, str]]) -> None:
        """Take over many timers at once, in place of what is there."""
        self._due = {stream: due for due, stream in timers}
        self._heap, self._old = list(self), []
        heapq.heapify(self._heap)

    def set(self, stream: str, due_ms: int | None) -> None:
        """The stream wants to be woken then and no more at another time; None: not at all."""
        if due_ms is None:
            self._due.pop(stream, None)
        elif self._due.get(stream) != due_ms:
            self._due[stream] = due_ms
            heapq.heappush(self._heap, (due_ms, stream))
        if self._old:
            self._sweep()
        elif len(self._heap) > 2 * len(self._due) + _SPARE:
            self._heap, self._old = [], self._heap

    def first_ms(self) -> int | None:
        """When the earliest timer falls due."""
        heap = self._first_heap()
        return None if heap is None else heap[0][0]

    def pop_due(self, now_ms: int) -> tuple[int, str] | None:
        """Take off the earliest timer that is due."""
        heap = self._first_heap()
        if heap is None or heap[0][0] > now_ms:
            return None
        entry = heapq.heappop(heap)
        del self._due[entry[1]]
        return entry

    def before(self, ms: int, limit: int) -> list[int]:
        """Due times before `ms`, `limit` at most; looks at no entry that is due later."""
        found: dict[str, int] = {}  # by stream: a timer that came and went and came is in the heaps twice
        for heap in (self._heap, self._old):
            places = [0]
            while places and len(found) < limit:
                place = places.pop()
                if place >= len(heap) or heap[place][0] >= ms:
                    continue
                due, stream = heap[place]
                if self._wanted((due, stream)):
                    found[stream] = due
                places += (2 * place + 2, 2 * place + 1)
        return list(found.values())

    def _wanted(self, entry: tuple[int, str]) -> bool:
        return self._due.get(entry[1]) == entry[0]

    def _first_heap(self) -> list[tuple[int, str]] | None:
        """The heap whose first entry is the earliest timer; None when there is no timer."""
        first = None
        for heap in (self._heap, self._old):
            while heap and not self._wanted(heap[0]):
                heapq.heappop(heap)
            if heap and (first is None or heap[0] < first[0]):
                first = heap
        return first

    def _sweep(self) -> None:
        for _ in range(min(_SWEPT_AT_ONCE, len(self._old))):
            entry = self._old.pop()
            if self._wanted(entry):
                heapq.heappush(self._heap, entry)
