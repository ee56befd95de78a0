"""Lists what was set aside; sends it again, or gives it up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import msgspec
from confluent_kafka import KafkaException

from jobledger.domain.identity import partition_of
from jobledger.domain.values import Actor
from jobledger.eventlog.producer import BackpressureError, RecordProducer
from jobledger.eventlog.quarantine import Entry, QuarantineBook, QuarantineUnreadableError
from jobledger.graphql.types.errors import ErrorCode, UserError, user_error
from jobledger.graphql.types.quarantine import QuarantinedItem, QuarantineResolved, QuarantineStatus
from jobledger.graphql.validation import Refused, check_text
from jobledger.schemas.commands import join_record
from jobledger.schemas.decoding import decode_any
from jobledger.schemas.quarantine import MAX_NOTE_LENGTH, Resolution, Resolved, encode_resolved
from jobledger.telemetry.logs import get_logger

MAX_TEXT_BYTES = 64 * 1024
SEND_SECONDS = 5.0

log = get_logger()


class Quarantine:
    """The quarantine of a cell, as the api shows and changes it."""

    def __init__(
        self,
        book: QuarantineBook,
        producer: RecordProducer,
        topics: tuple[str, str],
        partitions: int,
        clock_ms: Callable[[], int],
    ) -> None:
        """`topics` are the names of `commands` and `quarantine`."""
        self._book = book
        self._producer = producer
        self._commands, self._quarantine = topics
        self._partitions = partitions
        self._clock_ms = clock_ms
        #: One at a time: the book is for one thread, and a thing is resolved once.
        self._one = asyncio.Lock()

    async def page(self, first: int, after: str | None, *, resolved: bool) -> tuple[list[QuarantinedItem], bool]:
        """Up to `first` things, the newest first, behind the one of id `after`; whether there are more.

        `resolved`: those that are resolved too. Raises QuarantineUnreadableError or KafkaException.
        """
        async with self._one:
            await asyncio.to_thread(self._book.refresh)
            entries = [e for e in reversed(self._book.entries.values()) if resolved or e.resolved is None]
        if after is not None:
            place = next((n for n, entry in enumerate(entries) if entry.head.id == after), len(entries))
            entries = entries[place + 1 :]
        return [shown(entry, with_data=False) for entry in entries[:first]], len(entries) > first

    async def find(self, identity: str) -> QuarantinedItem | None:
        """One thing, with its bytes."""
        async with self._one:
            await asyncio.to_thread(self._book.refresh)
            entry = self._book.entries.get(identity)
        return None if entry is None else shown(entry, with_data=True)

    async def resolve(
        self, identity: str, resolution: Resolution, actor: Actor, note: str
    ) -> QuarantineResolved | UserError:
        """Send a thing again, or give it up.

        It is sent before it is noted as resolved: should this process end in between, it is still open and can be
        sent again, which a command's id makes harmless.
        """
        try:
            note = check_text("note", note, MAX_NOTE_LENGTH)
        except Refused as refused:
            return refused.error
        async with self._one:
            try:
                await asyncio.to_thread(self._book.refresh)
                entry = self._book.entries.get(identity)
                if error := _not_open(identity, entry):
                    return error
                assert entry is not None
                if resolution is Resolution.RETRIED:
                    await self._send(self._commands, self._home(entry), _as_record(entry.data))
                done = Resolved(id=identity, resolution=resolution, actor=actor, at_ms=self._clock_ms(), note=note)
                await self._send(self._quarantine, 0, encode_resolved(done))
                await asyncio.to_thread(self._book.refresh)
            except (BackpressureError, KafkaException, QuarantineUnreadableError, TimeoutError) as error:
                return unavailable(error)
        log.warning("quarantine_resolved", quarantine_id=identity, resolution=resolution.value, actor_id=actor.id)
        return QuarantineResolved(item=shown(self._book.entries.get(identity, entry), with_data=False))

    async def _send(self, topic: str, partition: int, value: bytes) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await asyncio.shield(self._producer.send(topic, partition, value))

    def _home(self, entry: Entry) -> int:
        """Where its stream lives, as far as that can be told: it may have been set aside for having come elsewhere."""
        stream = entry.head.stream
        return partition_of(stream, self._partitions) if stream else entry.head.partition


def unavailable(error: BaseException) -> UserError:
    """Kafka does not answer."""
    return user_error(ErrorCode.UNAVAILABLE, f"The quarantine can't be reached ({error})", "try again later")


def _as_record(data: bytes) -> bytes:
    """A record of commands: what was set aside is one command, or a record that could not be read itself."""
    try:
        found = decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data
    return data if isinstance(found, dict) and "commands" in found else join_record([data])


def _not_open(identity: str, entry: Entry | None) -> UserError | None:
    if entry is None:
        problem = f"Nothing with id '{identity[:80]}' is in quarantine"
        return user_error(ErrorCode.NOT_FOUND, problem, "take an id from the list", ["id"], identity)
    if entry.resolved is not None:
        problem = f"'{identity}' is {entry.resolved.resolution.value} already"
        return user_error(ErrorCode.INVALID_STATE, problem, "what failed again has a new id", ["id"], identity)
    if not entry.whole:
        return user_error(
            ErrorCode.UNAVAILABLE, f"Not all of '{identity}' has arrived yet", "try again later", ["id"], identity
        )
    return None


def shown(entry: Entry, *, with_data: bool) -> QuarantinedItem:
    """A thing set aside as the schema shows it."""
    head, done, data = entry.head, entry.resolved, entry.data
    return QuarantinedItem(
        id=head.id,  # type: ignore[arg-type]
        status=QuarantineStatus(done.resolution.value) if done else QuarantineStatus.OPEN,
        reason=head.reason,
        at=head.at_ms or None,  # type: ignore[arg-type]
        topic=head.topic,
        partition=head.partition,
        offset=head.offset,  # type: ignore[arg-type]
        index=head.index,
        command_id=head.command_id,  # type: ignore[arg-type]
        stream=head.stream,
        size=len(data),
        text=data[:MAX_TEXT_BYTES].decode(errors="replace") if with_data else "",
        data=base64.b64encode(data).decode() if with_data and entry.whole else None,
        resolved_at=done.at_ms if done else None,  # type: ignore[arg-type]
        resolved_by=done.actor.id if done else None,
        note=done.note or None if done else None,
    )
