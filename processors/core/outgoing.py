"""What a batch sends to other partitions and topics: grouped per destination, then numbered."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jobledger.domain.identity import partition_of
from jobledger.domain.worker_messages import AnyWorkerMessage
from jobledger.processors.core.checkpoint import Checkpoint, Destination
from jobledger.processors.core.plan import OutboxEntry
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.schemas.limits import MAX_COMMANDS_PER_RECORD, MAX_RECORD_BYTES
from jobledger.schemas.quarantine import Quarantined, encode_quarantined, pieces
from jobledger.schemas.topics import TASK_PARTITIONS
from jobledger.schemas.worker import encode_message, join_tasks

#: Destination of what is set aside.
QUARANTINE: Destination = "q0"


class Outgoing:
    """Collects encoded commands and messages per destination, in the order of the decisions."""

    def __init__(self, partition: int, checkpoint: Checkpoint) -> None:
        self._partition = partition
        self._checkpoint = checkpoint
        self._groups: dict[Destination, list[bytes]] = {}
        self.count = 0
        self._aside = 0

    def to_partition(self, partition: int, command: Command) -> int:
        """A command for a stream of another partition; returns its size in bytes."""
        return self._add(f"c{partition}", encode_command(command))

    def to_worker(self, message: AnyWorkerMessage) -> int:
        """A message for a worker's inbox; returns its size in bytes."""
        return self._add(f"t{partition_of(message.worker, TASK_PARTITIONS)}", encode_message(message))

    def quarantine(self, whole: Quarantined) -> int:
        """Something that could not be read or decided; returns its size in bytes.

        It gets its id here: the number that this batch's next record of the quarantine will have, and its place.
        """
        self._aside += 1
        number = self._checkpoint.sent.get(QUARANTINE, 0) + 1
        whole = msgspec.structs.replace(whole, id=f"{self._partition}-{number}-{self._aside}")
        return sum(self._add(QUARANTINE, encode_quarantined(piece)) for piece in pieces(whole))

    def _add(self, destination: Destination, data: bytes) -> int:
        self._groups.setdefault(destination, []).append(data)
        return len(data)

    def entries(self) -> Iterator[OutboxEntry]:
        """The numbered entries: each a record of at most 500 items and 256 KiB, or one larger item alone."""
        for destination, items in self._groups.items():
            for group in _split(items):
                number = self._checkpoint.sent.get(destination, 0) + 1
                self._checkpoint.sent[destination] = number
                yield OutboxEntry(destination, number, self._join(destination, group, number))

    def _join(self, destination: Destination, group: list[bytes], number: int) -> bytes:
        if destination[0] == "c":
            return join_record(group, self._partition, number)
        if destination[0] == "t":
            return join_tasks(group, self._partition, number)
        return b"[" + b",".join(group) + b"]"


def _split(items: list[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for item in items:
        if group and (len(group) >= MAX_COMMANDS_PER_RECORD or size + len(item) > MAX_RECORD_BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item)
    if group:
        yield group


def read_outbox(key: bytes, value: bytes) -> OutboxEntry:
    """The outbox entry in a state record."""
    _, destination, number = key.decode().split("|")
    return OutboxEntry(destination, int(number), value)
