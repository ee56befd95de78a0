"""From Kafka messages to a batch: reads the events, checks that none is missing, folds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Message

from jobledger.projections.changes import Changes
from jobledger.projections.event_reader import EventReader
from jobledger.projections.fold import fold, set_aside
from jobledger.projections.second_lives import SecondLives, Standing
from jobledger.projections.spans import TracedEvent, is_traced
from jobledger.projections.writer import Advance, Position, SecondLifeError, Writer
from jobledger.schemas.events import TYPE_PREFIX, EventRecord, UnknownEventTypeError, decode_head
from jobledger.telemetry.logs import get_logger

log = get_logger()
_OURS = TYPE_PREFIX.encode()


class ProjectionStoppedError(RuntimeError):
    """The log can't be projected any further; the message says why. Nothing was skipped."""


class EventBatch:
    """Events that follow directly on the positions of their partitions, folded. `until`: no seq beyond these."""

    def __init__(
        self,
        reader: EventReader,
        positions: Mapping[int, Position],
        until: Mapping[int, int] | None = None,
        rows: Mapping[str, Standing] | None = None,
    ) -> None:
        """`rows`: where the rows of jobs stand that the batch may meet; only needed when some began a second time."""
        self.changes = Changes()
        self.traced: list[TracedEvent] = []
        self._reader = reader
        self._positions = positions
        self._until = until
        self._reached: dict[int, Position] = {}
        self._versions: dict[str, int] = {}
        self._second_lives = SecondLives((rows or {}).get)

    def add(self, messages: Iterable[Message]) -> None:
        """Take in messages. Those of partitions without a position and events applied before are dropped.

        Raises ProjectionStoppedError on a gap, an unknown type or an event that can't be read.
        """
        for message in messages:
            partition = message.partition()
            position = self._reached.get(partition) or self._positions.get(partition)  # type: ignore[arg-type]
            if position is not None:
                self._add(message, partition or 0, position)

    def _add(self, message: Message, partition: int, position: Position) -> None:
        if self._until is not None and position.seq >= self._until.get(partition, 0):
            return
        value, offset = message.value() or b"", message.offset() or 0
        if offset < position.next_offset:
            return
        try:
            record = self._reader.read(value, message.headers)
        except (UnknownEventTypeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._broken(message, partition, position, error)
            return
        if record.seq <= position.seq:
            return
        if (record.id != f"{partition}-{record.seq}" or record.seq != position.seq + 1) and _is_foreign(message):
            self._set_aside(message, partition, position, "The record is no event that an owner has written.")
            return
        if record.seq != position.seq + 1:
            log.critical("projection_gap", partition=partition, expected_seq=position.seq + 1, found_seq=record.seq)
            raise ProjectionStoppedError(
                f"Partition {partition} of the events goes from seq {position.seq} to {record.seq} (offset {offset}): "
                f"events are missing. Restore the topic, or run `jobledger projection rebuild` if the log is whole."
            )
        fault = self._second_lives.fault(record)
        if fault is None:
            self._check_version(record, partition)
            fold(self.changes, record, partition, value)
            if is_traced(record):
                self.traced.append(TracedEvent(record, partition, message.headers))
        else:
            set_aside(self.changes, record, partition, value, fault)
        self._reached[partition] = Position(record.seq, offset + 1, record.at_ms)

    def _check_version(self, record: EventRecord, partition: int) -> None:
        known = self._versions.get(record.originator_id)
        if known is not None and record.originator_version != known + 1:
            raise ProjectionStoppedError(
                f"Stream '{record.originator_id}' on partition {partition} goes from version {known} to "
                f"{record.originator_version} at seq {record.seq}: the log was not written by one owner."
            )
        self._versions[record.originator_id] = record.originator_version

    def _broken(self, message: Message, partition: int, position: Position, error: Exception) -> None:
        """Something that isn't an event at all is left aside: were it one, the next would show a gap."""
        try:
            envelope = decode_head(message.value() or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._set_aside(message, partition, position, str(error))
            return
        if envelope.seq <= position.seq:
            self._reached[partition] = Position(position.seq, (message.offset() or 0) + 1, position.last_event_at_ms)
            return
        if _is_foreign(message):
            self._set_aside(message, partition, position, str(error))
            return
        if isinstance(error, UnknownEventTypeError):
            log.critical(
                "projection_unknown_event", partition=partition, seq=envelope.seq, event_type=str(error).split("'")[1]
            )
        raise ProjectionStoppedError(
            f"Event {envelope.seq} of partition {partition} (stream '{envelope.stream}', version {envelope.version}) "
            f"can't be read: {error}"
        ) from error

    def _set_aside(self, message: Message, partition: int, position: Position, error: str) -> None:
        offset = message.offset() or 0
        log.error("record_quarantined", topic=message.topic(), partition=partition, offset=offset, error=error)
        self._reached[partition] = Position(position.seq, offset + 1, position.last_event_at_ms)

    def advances(self) -> list[Advance]:
        """How the positions move; by partition, so that two writers lock in the same order."""
        return [
            Advance(p, self._positions[p].seq, to.seq, to.next_offset, to.last_event_at_ms)
            for p, to in sorted(self._reached.items())
        ]

    def write(self, writer: Writer, messages: list[Message]) -> EventBatch:
        """Write it; `messages` are those that were added. Returns what was written: this batch, or the same folded
        again because jobs of it had ended before in the tables, with their events set aside.

        Raises as `Writer.write`.
        """
        written = self
        try:
            writer.write(self.changes, self.advances())
        except SecondLifeError:
            rows = writer.standings(self.changes.jobs.rows)
            written = EventBatch(self._reader, self._positions, self._until, rows)
            written.add(messages)
            writer.write(written.changes, written.advances())
        for (partition, seq), row in written.changes.set_aside.items():
            log.error("projection_event_set_aside", partition=partition, seq=seq, event_type=row["type"])
        return written

    @property
    def reached(self) -> dict[int, Position]:
        """Where the partitions stand once the batch is written."""
        return self._reached


def _is_foreign(message: Message) -> bool:
    """Whether somebody else has written a record: an event of an owner has CloudEvents headers with a type of ours."""
    headers: Any = message.headers() or ()
    return not any(name == "ce_type" and (value or b"").startswith(_OURS) for name, value in headers)
