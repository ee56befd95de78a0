"""What batches had no room for: commands that run first in the next one, first in, first out.

A few of them stand in the checkpoint itself. More than fit there go into records of their own in `state`,
`p|number`, each written once and deleted when all of it has run: a wide fan-out costs each transaction what it
adds and takes, not what is left over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from jobledger.processors.core.checkpoint import Checkpoint, Pending
from jobledger.processors.core.state_records import (
    PendingPart,
    UnreadableStateError,
    decode_state,
    join_pending,
    pending_key,
)

#: What may stand in the checkpoint, which is written with every transaction.
MAX_INLINE_ITEMS = 64
MAX_INLINE_BYTES = 32 * 1024
#: A record of its own holds this much, or one larger command alone.
MAX_PART_BYTES = 256 * 1024

_encode = msgspec.json.Encoder().encode


class PendingQueue:
    """The commands left over on one partition, oldest first, and where each stands in `state`."""

    def __init__(self, checkpoint: Checkpoint, parts: Mapping[int, PendingPart]) -> None:
        """As committed: what stands in the checkpoint, then the records of their own by number."""
        self._items: deque[Pending] = deque(checkpoint.pending)
        self._inline = len(self._items)
        self._inline_bytes = sum(len(_encode(item)) for item in self._items)
        #: (number, items) of each record that holds something still; of the first one `_taken` have run.
        self._parts: deque[tuple[int, int]] = deque()
        self._taken = checkpoint.part_taken
        self._over: list[int] = []
        for number in sorted(parts):
            items = parts[number].items
            self._items.extend(items if self._parts else items[self._taken :])
            self._parts.append((number, len(items)))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._items)

    def take(self) -> Pending:
        """The oldest one; it counts as run with the next `write`."""
        item = self._items.popleft()
        if self._inline:
            self._inline -= 1
            return item
        number, size = self._parts[0]
        self._taken += 1
        if self._taken == size:
            self._parts.popleft()
            self._over.append(number)
            self._taken = 0
        return item

    def write(self, new: list[Pending], checkpoint: Checkpoint, state: dict[bytes, bytes | None]) -> None:
        """Append what a batch left over, and put down what its transaction has to write."""
        state.update((pending_key(number), None) for number in self._over)
        self._over.clear()
        if not self._items and not new:
            checkpoint.pending, checkpoint.part_taken = [], 0
            return
        encoded = [_encode(item) for item in new]
        if not self._inline:
            self._inline_bytes = 0
        if self._fits(encoded):
            self._inline += len(new)
            self._inline_bytes += sum(map(len, encoded))
        else:
            self._spill(encoded, checkpoint, state)
        self._items.extend(new)
        checkpoint.pending = [item for item, _ in zip(self._items, range(self._inline), strict=False)]
        checkpoint.part_taken = self._taken

    def _fits(self, encoded: list[bytes]) -> bool:
        """Whether the checkpoint can hold these too; nothing may stand there behind records of their own."""
        size = self._inline_bytes + sum(map(len, encoded))
        return not self._parts and self._inline + len(encoded) <= MAX_INLINE_ITEMS and size <= MAX_INLINE_BYTES

    def _spill(self, encoded: list[bytes], checkpoint: Checkpoint, state: dict[bytes, bytes | None]) -> None:
        for group in _groups(encoded):
            checkpoint.part_last += 1
            self._parts.append((checkpoint.part_last, len(group)))
            state[pending_key(checkpoint.part_last)] = join_pending(group, checkpoint.level)


def _groups(encoded: list[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for item in encoded:
        if group and size + len(item) > MAX_PART_BYTES:
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item) + 1
    if group:
        yield group


def read_part(value: bytes) -> PendingPart:
    """A record of its own; raises UnreadableStateError."""
    part = decode_state(value)
    if not isinstance(part, PendingPart):
        raise UnreadableStateError("something else stands in the place of commands that a batch left over.")
    return part
