"""What the quarantine of a cell holds: reads the topic to its end and folds it."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Message

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.partitions import PartitionReader
from jobledger.schemas.quarantine import Quarantined, Resolved, decode_quarantine

READ_SECONDS = 10.0
READ_BATCH = 500
#: Things of which more than the reason is remembered; older ones are read from the topic only by other tools.
MAX_ENTRIES = 10_000
MAX_BYTES = 64 * 1024 * 1024


class QuarantineUnreadableError(RuntimeError):
    """The topic could not be read to its end in time."""


@dataclass(slots=True)
class Entry:
    """One thing set aside: its first piece, its bytes as far as they have been read, and what became of it."""

    head: Quarantined
    pieces: dict[int, bytes] = field(default_factory=dict)
    resolved: Resolved | None = None

    @property
    def whole(self) -> bool:
        """Whether every byte is there."""
        return len(self.pieces) == self.head.chunks

    @property
    def data(self) -> bytes:
        """The bytes that were set aside; of a record of before, its text."""
        return b"".join(self.pieces[chunk] for chunk in sorted(self.pieces)) or self.head.raw.encode()

    @property
    def held_bytes(self) -> int:
        """What it takes of the bound on memory."""
        return len(self.head.raw) + sum(map(len, self.pieces.values()))


class QuarantineBook:
    """The folded topic; `refresh` reads on from where it stopped. Not for several threads at once."""

    def __init__(self, config: ClientConfig, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._next = 0
        self._bytes = 0
        #: By id, the oldest first; at most 10,000 and 64 MiB, the newest.
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def refresh(self) -> None:
        """Read what has come to the topic; raises QuarantineUnreadableError and KafkaException."""
        with PartitionReader(self._config) as reader:
            self._read(reader)

    def _read(self, reader: PartitionReader) -> None:
        low, high = reader.bounds(self._topic, 0, READ_SECONDS)
        if self._next > high:  # the topic was made anew
            self._next, self._bytes = low, 0
            self.entries.clear()
        self._next = max(self._next, low)
        if self._next >= high:
            return
        deadline = time.monotonic() + READ_SECONDS
        with closing(reader.to_end(self._topic, 0, self._next, most=READ_BATCH)) as batches:
            for taken in batches:
                for message in taken.records:
                    self._take(message)
                self._next = max(self._next, taken.ends.get(0, 0))  # marks of transactions stand before the end
                if self._next >= high:
                    return
                if time.monotonic() > deadline:
                    raise QuarantineUnreadableError(
                        f"'{self._topic}' could not be read to its end in {READ_SECONDS:.0f} s"
                    )

    def _take(self, message: Message) -> None:
        offset = message.offset() or 0
        self._next = offset + 1
        try:
            items = decode_quarantine(message.value() or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # somebody else's bytes: nothing of ours was set aside with them
        for index, item in enumerate(items):
            if isinstance(item, Resolved):
                self._resolve(item)
            else:
                self._add(item, item.id or f"q{offset}-{index}")

    def _resolve(self, item: Resolved) -> None:
        entry = self.entries.get(item.id)
        if entry is not None and entry.resolved is None:
            entry.resolved = item

    def _add(self, item: Quarantined, identity: str) -> None:
        entry = self.entries.get(identity)
        if entry is None:
            head = msgspec.structs.replace(item, id=identity, data=b"")
            entry = self.entries[identity] = Entry(head)
            self._bytes += len(head.raw)
        if item.chunk not in entry.pieces:
            entry.pieces[item.chunk] = item.data
            self._bytes += len(item.data)
        while len(self.entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            _, gone = self.entries.popitem(last=False)
            self._bytes -= gone.held_bytes
