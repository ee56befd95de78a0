"""The machine of a partition from the last value of each key in `state`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from jobledger.domain.aggregates import kind_of
from jobledger.domain.levels import NEWEST
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits, timer_id
from jobledger.processors.core.outgoing import read_outbox
from jobledger.processors.core.part_records import PartRecords
from jobledger.processors.core.pending import PendingQueue, read_part
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import (
    CHECKPOINT_KEY,
    PARTS,
    PendingPart,
    UnreadableStateError,
    decode_snapshot,
    decode_state,
    part_key,
    part_name,
)
from jobledger.schemas.commands import NO_COMMANDS, checksum
from jobledger.schemas.topics import Topic, changed_sentence, topic_name

_BATCH = 10_000
#: Idempotency keys, stubs of ended streams, commands that changed nothing: what is kept for a time only.
_RETAINED = frozenset((b"k|", b"e|", b"n|"))


class LostTailError(RuntimeError):
    """`events` and the checkpoint disagree: records were lost. The owner refuses to serve the partition."""


class ForeignStateError(RuntimeError):
    """The `state` topic belongs to another cell, or to one of another size."""


def read_record(key: bytes, value: bytes) -> Any:
    """`decode_state`; the error names the record."""
    try:
        return decode_state(value)
    except UnreadableStateError as error:
        raise error.at(key) from error


def read_checkpoint(records: Mapping[bytes, bytes], cell: str, partitions: int) -> Checkpoint:
    """The checkpoint in the state of a partition, or a first one in the newest formats.

    Raises ForeignStateError, or UnreadableStateError for one of a newer level.
    """
    data = records.get(CHECKPOINT_KEY)
    if data is None:
        return Checkpoint(cell=cell, partitions=partitions, level=NEWEST, reads=NEWEST)
    checkpoint = read_record(CHECKPOINT_KEY, data)
    if not isinstance(checkpoint, Checkpoint):
        raise UnreadableStateError("something else stands in the place of the checkpoint.").at(CHECKPOINT_KEY)
    if (checkpoint.cell, checkpoint.partitions) != (cell, partitions):
        raise ForeignStateError(
            f"The state is that of cell '{checkpoint.cell}' with {checkpoint.partitions} partitions, not of "
            f"'{cell}' with {partitions}: set JOBLEDGER_CELL and JOBLEDGER_PARTITIONS to those."
        )
    if checkpoint.level > NEWEST:
        raise UnreadableStateError(f"Format level {checkpoint.level} is enabled, which needs another release.")
    checkpoint.reads = NEWEST
    return checkpoint


def check_tail(partition: int, checkpoint: Checkpoint, last_event_seq: int) -> None:
    """Raise LostTailError unless the last event of the partition is the checkpoint's."""
    if checkpoint.seq != last_event_seq:
        raise LostTailError(
            f"Partition {partition}: the last event in the log is number {last_event_seq}, but the checkpoint says "
            f"{checkpoint.seq}. Records were lost; the partition stays closed. Run `jobledger replay verify`."
        )


def check_topics(checkpoint: Checkpoint, ids: Mapping[str, str], *, accept_new: bool = False) -> None:
    """Note the topics' ids in the checkpoint; raise ForeignStateError when one is not the topic that it was."""
    for role, found in ids.items():
        known = checkpoint.topics.get(role)
        if known is not None and known != found and not accept_new:
            raise ForeignStateError(changed_sentence(topic_name(checkpoint.cell, Topic(role)), known, found))
    checkpoint.topics = {**checkpoint.topics, **ids}


class LatestState:
    """The last value of each key, taken record by record while `state` is read.

    Stubs and idempotency keys go to the cache at once, so that memory holds what is live and no more: they are many
    times as many. `records` has the rest.
    """

    def __init__(self, retained: Retained) -> None:
        self.retained = retained
        self.records: dict[bytes, bytes] = {}

    def take(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take (key, value) records in the order of the log; None: the key is gone. Raises UnreadableStateError."""
        kept: dict[bytes, bytes | None] = {}
        for key, value in records:
            if key[:2] in _RETAINED:
                kept[key] = value
            elif value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value
        if gone := [key for key, value in kept.items() if value is None]:
            self.retained.remove_many(gone)
        # In the order of the keys: most of them then go to the same place of the cache, one behind the other.
        rows = [
            (key, value, read_record(key, value).expires_at_ms)
            for key, value in sorted(kept.items())
            if value is not None
        ]
        if rows:
            self.retained.put_many(rows)


def rebuild(
    partition: int, cell: str, partitions: int, records: Mapping[bytes, bytes], limits: Limits, retained: Retained
) -> Machine:
    """A machine as it stood after its last commit; `records` holds the last value per key, no tombstones.

    Raises ForeignStateError, or UnreadableStateError for records of another release.
    """
    latest = LatestState(retained)
    for batch in _batches(records.items()):
        latest.take(batch)
    return build(partition, cell, partitions, latest, limits)


def build(partition: int, cell: str, partitions: int, latest: LatestState, limits: Limits) -> Machine:
    """`rebuild` from what was taken while the state was read."""
    machine = Machine(partition, read_checkpoint(latest.records, cell, partitions), limits, latest.retained)
    stored: dict[tuple[str, str], dict[str, bytes]] = {}
    whole: dict[str, Any] = {}
    timers: list[tuple[int, str]] = []
    left_over: dict[int, PendingPart] = {}
    for key, value in latest.records.items():
        letter, _, rest = key.partition(b"|")
        try:
            if letter == b"s":
                _take_snapshot(machine, whole, timers, rest.decode(), value)
            elif letter in PARTS:
                stream, _, name = rest.decode().partition("|")
                stored.setdefault((letter.decode(), stream), {})[name] = value
            elif letter == b"o":
                machine.outbox[key] = read_outbox(key, value)
            elif letter == b"p":
                left_over[int(rest)] = read_part(value)
        except (ValueError, LookupError, msgspec.MsgspecError) as error:
            raise UnreadableStateError(str(error)).at(key) from error
    unpacked = _take_parts(machine, stored, whole, timers)
    for stream, snapshot in whole.items():
        kind = kind_of(stream)
        machine.streams[kind.name][stream] = machine.assemble(kind, stream, snapshot, unpacked.get(stream, {}))
    machine.close_parts()
    machine.timers.load([timer for timer in timers if timer_id(timer[1], timer[0]) not in machine.checkpoint.aside])
    latest.retained.loaded()
    machine.pending = PendingQueue(machine.checkpoint, left_over)
    machine.outbox = dict(sorted(machine.outbox.items(), key=lambda item: item[1].number))
    return machine


def _take_snapshot(
    machine: Machine, whole: dict[str, Any], timers: list[tuple[int, str]], stream: str, value: bytes
) -> None:
    """Packed streams go to memory as they are; the others wait in `whole` for their parts."""
    snapshot = decode_snapshot(value)
    kind = kind_of(stream)
    if kind.packed:
        machine.streams[kind.name][stream] = value
    else:
        whole[stream] = snapshot
    due = None if kind.timer is None else kind.timer.next_ms(snapshot)
    if due is not None:
        timers.append((due, stream))


def _take_parts(
    machine: Machine,
    stored: Mapping[tuple[str, str], dict[str, bytes]],
    whole: Mapping[str, Any],
    timers: list[tuple[int, str]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Packed parts go to memory as they are; the others are given by stream and part. `stored`: by letter and stream.

    What a stream left that has ended is deleted with the next batches.
    """
    unpacked: dict[str, dict[str, dict[str, Any]]] = {}
    for (letter, stream), records in stored.items():
        part, kind = PARTS[letter.encode()], kind_of(stream)
        if kind.ending is not None and stream not in whole and stream not in machine.streams[kind.name]:
            machine.orphans.update((part_key(letter, stream, name), None) for name in records)
            continue
        if part.packed:
            machine.parts[letter, stream] = PartRecords(decode_state, records)
        else:
            unpacked.setdefault(stream, {})[part.name] = {
                name: read_record(part_key(letter, stream, name), data) for name, data in records.items()
            }
        if part.timer is not None:
            read = ((read_record(part_key(letter, stream, name), data), name) for name, data in records.items())
            dues = ((part.timer.next_ms(record), name) for record, name in read)
            timers += [(due, part_name(letter, stream, name)) for due, name in dues if due is not None]
    return unpacked


def _batches(items: Iterable[tuple[bytes, bytes]]) -> Iterable[list[tuple[bytes, bytes]]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch


def check_commands(partition: int, checkpoint: Checkpoint, commands_end: int) -> None:
    """Raise LostTailError when the log of commands ends before the next command: new ones would be taken for old."""
    if checkpoint.offset > commands_end:
        raise LostTailError(
            f"Partition {partition}: the log of commands ends at offset {commands_end}, but the checkpoint says that "
            f"{checkpoint.offset} comes next. Records were lost; the partition stays closed. "
            f"Run `jobledger replay verify`."
        )


def check_last_command(partition: int, checkpoint: Checkpoint, found: Sequence[tuple[int, bytes]]) -> None:
    """Raise LostTailError when another record stands where the last decided one stood; `found` is read from there.

    The log was cut off and has grown again beyond the checkpoint: what stands before that was never decided. Nothing
    can be told of a record that is not kept any more.
    """
    last = checkpoint.offset - 1
    if checkpoint.checksum is None or not found or found[0][0] != last or found[0][1] == NO_COMMANDS:
        return
    if checksum(found[0][1]) != checkpoint.checksum:
        raise LostTailError(
            f"Partition {partition}: the command record at offset {last} is not the one that was decided: records were "
            f"lost and others have come in their places, which would never be decided. The partition stays closed. "
            f"Restore the topic from a copy, or send the commands since then again."
        )
