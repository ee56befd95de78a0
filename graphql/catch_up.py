"""Reads the log from a position that is older than what the tail keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message

from jobledger.eventlog.clients import ClientConfig, look_up_config
from jobledger.eventlog.event_offsets import LOOK_UP_SECONDS, locate
from jobledger.eventlog.partitions import PartitionReader
from jobledger.eventlog.positions import Vector
from jobledger.schemas.events import sequence_in

#: How many subscribers may read the log at once; the others wait for their turn.
MAX_AT_ONCE = 4
#: What a subscriber gets in one turn. It is handed over after the turn, however slowly it is taken.
TURN_BYTES = 1024 * 1024
TURN_SECONDS = 5.0
RECORDS_AT_ONCE = 500
#: At the end of the log: until it is looked at again.
PAUSE_SECONDS = 0.2

#: (partition, seq, key, value)
LoggedEvent = tuple[int, int, bytes, bytes]


@dataclass(slots=True)
class _Turn:
    """What was read in a turn, and the offsets at which the next one goes on."""

    places: dict[int, int]
    events: list[LoggedEvent] = field(default_factory=list)


class CatchUp:
    """Reads for single subscribers, by turns: who does not take what was read for him keeps nobody else waiting."""

    def __init__(self, config: ClientConfig, topic: str) -> None:
        self._config: ClientConfig = {**config, "queued.max.messages.kbytes": 2 * TURN_BYTES // 1024}
        self._topic = topic
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def read(self, behind: Vector) -> AsyncGenerator[list[LoggedEvent], None]:
        """Batches of events behind the given numbers, until the caller stops; an empty one at the end of the log.

        Raises KafkaException when the log cannot be read for `TURN_SECONDS`.
        """
        places: dict[int, int] | None = None
        while True:
            async with self._turns:
                turn = await asyncio.to_thread(self._take_turn, behind, places)
            places = turn.places
            yield turn.events
            if not turn.events:
                await asyncio.sleep(PAUSE_SECONDS)

    def _take_turn(self, behind: Vector, places: Mapping[int, int] | None) -> _Turn:
        turn = _Turn(dict(places) if places is not None else self._locate(behind))
        with PartitionReader(self._config) as reader:
            self._fill(reader, turn)
        return turn

    def _fill(self, reader: PartitionReader, turn: _Turn) -> None:
        """Read until there is enough, or nothing more; raises KafkaException."""
        unread = set(turn.places)
        size, deadline = 0, time.monotonic() + TURN_SECONDS
        with closing(reader.follow(self._topic, turn.places, most=RECORDS_AT_ONCE)) as batches:
            while unread and size < TURN_BYTES:
                taken = next(batches)
                size += sum(_take(message, turn) for message in taken.records)
                for partition, end in taken.ends.items():
                    turn.places[partition] = max(turn.places[partition], end)
                unread -= taken.ends.keys()
                if taken.records and turn.events and time.monotonic() > deadline:
                    return
                if time.monotonic() > deadline:
                    raise KafkaException(
                        reader.passing or KafkaError(KafkaError._TIMED_OUT, f"{self._topic} does not answer")
                    )

    def _locate(self, behind: Vector) -> dict[int, int]:
        with PartitionReader(look_up_config(self._config)) as reader:
            return {
                partition: locate(reader, self._topic, partition, seq, LOOK_UP_SECONDS)
                for partition, seq in behind.items()
            }


def _take(message: Message, turn: _Turn) -> int:
    """Take in a record; gives the bytes that it adds."""
    partition, key, value = message.partition() or 0, message.key() or b"", message.value() or b""
    key = key.encode() if isinstance(key, str) else key
    value = value.encode() if isinstance(value, str) else value
    turn.places[partition] = (message.offset() or 0) + 1
    seq = sequence_in(message.headers())
    if seq is None or b":" not in key:
        return 0  # somebody else's bytes: an event names its stream and its number
    turn.events.append((partition, seq, key, value))
    return len(value)
