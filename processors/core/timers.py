"""When the jobs of a partition want to be woken: at most one time each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

#: Entries that nobody wants any more may be as many as those that are wanted, and this many beside.
_SPARE = 1_000


class Timers:
    """A heap of (due in ms, stream). What is changed or taken off stays in it until it comes up, or is swept.

    Most timers never fire: an attempt has a limit of a day and ends within seconds. A sweep costs time by the
    wanted ones and comes after as many changes, so the heap is never larger than twice what is wanted.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(due, stream) of each timer, in no order."""
        return ((due, stream) for stream, due in self._due.items())

    @property
    def held(self) -> int:
        """Entries of the heap, swept or not."""
        return len(self._heap)

    def load(self, timers: Iterable[tuple[int, str]]) -> None:
        """Take over many timers at once, in place of what is there."""
        self._due = {stream: due for due, stream in timers}
        self._rebuild()

    def set(self, stream: str, due_ms: int | None) -> None:
        """The stream wants to be woken then and no more at another time; None: not at all."""
        if due_ms is None:
            self._due.pop(stream, None)
        elif self._due.get(stream) != due_ms:
            self._due[stream] = due_ms
            heapq.heappush(self._heap, (due_ms, stream))
        if len(self._heap) > 2 * len(self._due) + _SPARE:
            self._rebuild()

    def first_ms(self) -> int | None:
        """When the earliest timer falls due."""
        while self._heap and not self._wanted(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> tuple[int, str] | None:
        """Take off the earliest timer that is due."""
        first = self.first_ms()
        if first is None or first > now_ms:
            return None
        entry = heapq.heappop(self._heap)
        del self._due[entry[1]]
        return entry

    def before(self, ms: int, limit: int) -> list[int]:
        """Due times before `ms`, `limit` at most; looks at no entry that is due later."""
        found: dict[str, int] = {}  # by stream: a timer that came and went and came is in the heap twice
        places = [0]
        while places and len(found) < limit:
            place = places.pop()
            if place >= len(self._heap) or self._heap[place][0] >= ms:
                continue
            due, stream = self._heap[place]
            if self._wanted((due, stream)):
                found[stream] = due
            places += (2 * place + 2, 2 * place + 1)
        return list(found.values())

    def _wanted(self, entry: tuple[int, str]) -> bool:
        return self._due.get(entry[1]) == entry[0]

    def _rebuild(self) -> None:
        self._heap = list(self)
        heapq.heapify(self._heap)
