"""Where in a partition of `events` an event stands, told by the numbers in the headers of a few records."""

from __future__ import annotations

from jobledger.eventlog.partitions import STEP_BACK, PartitionReader
from jobledger.schemas.events import sequence_in

#: A search ends when this few offsets are left; they are read through.
CLOSE_ENOUGH = 500
#: For each answer of the brokers to a search.
LOOK_UP_SECONDS = 5.0


def last_event_seq(reader: PartitionReader, topic: str, partition: int, seconds: float) -> int:
    """Number of the last committed event, 0 if there is none.

    Raises KafkaException, and SilentLogError when nothing comes for so long.
    """
    low, high = reader.bounds(topic, partition, seconds)
    step = STEP_BACK
    while True:
        start, last = max(low, high - step), 0
        for taken in reader.to_end(topic, partition, start, silence_seconds=seconds):
            for message in taken.records:
                last = sequence_in(message.headers()) or last
        if last or start <= low:
            return last
        step *= 8


def locate(reader: PartitionReader, topic: str, partition: int, seq: int, seconds: float) -> int:
    """An offset not behind the event number `seq + 1`, and close before it."""
    low, high = reader.bounds(topic, partition, seconds)
    while high - low > CLOSE_ENOUGH:
        middle = (low + high) // 2
        found = _first_event(reader, topic, partition, middle, seconds)
        if found is not None and found[1] <= seq:
            low = found[0]
        else:
            high = middle
    return low


def _first_event(
    reader: PartitionReader, topic: str, partition: int, offset: int, seconds: float
) -> tuple[int, int] | None:
    """(offset, seq) of the first event at `offset` or behind it; somebody else's bytes are passed over."""
    while (found := reader.first_record(topic, partition, offset, seconds)) is not None:
        at = found.offset() or 0
        seq = sequence_in(found.headers())
        if seq is not None:
            return at, seq
        offset = at + 1
    return None
