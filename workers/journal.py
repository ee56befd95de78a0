"""Which handlers run, in memory that outlives the worker: what the keeper tells the jobs of when the worker dies."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile

import msgspec

PLACE_BYTES = 1024
_LENGTH = struct.Struct("=I")
#: More places than slots: a place is kept until Kafka has the report of the end.
PLACES_PER_SLOT = 2
SPARE_PLACES = 64


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A handler that has begun, or may have, and whose end Kafka does not have yet. Times are ms since the epoch."""

    job: str
    task: str
    assignment: int
    handler: str
    incarnation: str
    assigned_at_ms: int
    started_at_ms: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to speak for the worker: to whom (the streams of its queues), and what it has told them.

    `topic` and `partitions`: of the commands. `kafka`: how a client reaches the cluster, passwords included.
    """

    worker: str
    pool: str
    handlers: list[str]
    queues: list[str]
    topic: str
    partitions: int
    kafka: dict[str, str | int | float | bool]


_encoder = msgspec.json.Encoder()
_running = msgspec.json.Decoder(Running)
_head = msgspec.json.Decoder(Head)


class Journal:
    """Written by the worker alone, without a system call: a place is filled before the handler begins.

    The memory belongs to a file without a name; where the system has them, to one that is on no disk. The head is in
    front, behind it are places of a fixed size, from `first_place` on.
    """

    def __init__(self, head: Head, slots: int) -> None:
        data = _encoder.encode(head)
        self.first_place = -(-(len(data) + _LENGTH.size) // PLACE_BYTES) * PLACE_BYTES
        size = self.first_place + (slots * PLACES_PER_SLOT + SPARE_PLACES) * PLACE_BYTES
        self.descriptor = _nameless_file()
        os.ftruncate(self.descriptor, size)
        self._memory = mmap.mmap(self.descriptor, 0)
        self._fill(0, data)
        self._free = list(range(self.first_place, size, PLACE_BYTES))

    def begin(self, running: Running) -> int | None:
        """Note a handler that begins now; gives its place, or None when there is none left or it is too long.

        Without a place only the end of the lease tells of its death.
        """
        data = _encoder.encode(running)
        if not self._free or len(data) > PLACE_BYTES - _LENGTH.size:
            return None
        place = self._free.pop()
        self._fill(place, data)
        return place

    def end(self, place: int | None) -> None:
        """Kafka has the report of its end."""
        if place is not None:
            _LENGTH.pack_into(self._memory, place, 0)
            self._free.append(place)

    def close(self) -> None:
        """Give the memory back; may be called twice."""
        self._memory.close()
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def _fill(self, at: int, data: bytes) -> None:
        """The length last: a place is read whole or not at all."""
        start = at + _LENGTH.size
        self._memory[start : start + len(data)] = data
        _LENGTH.pack_into(self._memory, at, len(data))


def read_journal(descriptor: int, first_place: int) -> tuple[Head, list[Running]]:
    """What a worker has left behind."""
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as memory:
        head = _head.decode(_data(memory, 0))
        filled = [_data(memory, at) for at in range(first_place, len(memory), PLACE_BYTES)]
    return head, [_running.decode(data) for data in filled if data]


def _data(memory: mmap.mmap, at: int) -> bytes:
    (length,) = _LENGTH.unpack_from(memory, at)
    start = at + _LENGTH.size
    return memory[start : start + length]


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("jobledger-worker")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
