"""Proves that what stands beside the events is their fold: the owners' state and the read models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from confluent_kafka import KafkaException, Message
from pydantic import SecretStr

from jobledger.eventlog.clients import KafkaConnection
from jobledger.projections.event_reader import EventReader
from jobledger.replay.log import CATCH_UP_SECONDS, Log, type_header
from jobledger.replay.read_models import ReadModelFold, ReadModels, compare_counts
from jobledger.replay.report import Report, VerifyError, VerifySettingsError
from jobledger.replay.state import StateFold, read_machine
from jobledger.schemas.events import EventMapper, EventRecord, UnknownEventTypeError, decode_head
from jobledger.schemas.topics import Topic

#: Called with what has been done so far: events folded, partitions done, partitions in all.
Progress = Callable[[int, int, int], None]
_PROGRESS_EVERY = 5_000
_NUL = b"\\u0000"


class VerifySettings(Protocol):
    """The part of the settings that a verification needs."""

    cell: str
    partitions: int
    postgres_dsn: SecretStr
    postgres_schema: str
    dedup_window_seconds: float

    @property
    def kafka(self) -> KafkaConnection: ...  # noqa: D102


async def verify(settings: VerifySettings, progress: Progress | None = None, *, read_models: bool = True) -> Report:
    """Fold all events and compare; works at rest and while the system runs.

    State and events of a partition are written in one transaction, so the state's own checkpoint says up to
    which event it must agree; the read models' positions are those of one snapshot. Raises VerifyError when
    that can't be done.
    """
    return await asyncio.to_thread(_Verification(settings, progress, read_models).run)


class _Verification:
    """One pass over each partition's events, in which both folds are made."""

    def __init__(self, settings: VerifySettings, progress: Progress | None, read_models: bool) -> None:
        self._settings = settings
        self._progress = progress
        self._with_read_models = read_models
        self._report = Report(settings.cell)
        self._counts: dict[str, dict[int, int]] = {}
        self._mapper = EventMapper()
        self._reader = EventReader()

    def run(self) -> Report:
        started = time.monotonic()
        settings = self._settings
        log = Log(settings.kafka, settings.cell)
        models: ReadModels | None = None
        try:
            self._check_partitions(log)
            if self._with_read_models:
                models = ReadModels(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
                self._report.read_model_vector = dict(models.vector)
            for partition in range(settings.partitions):
                self._partition(log, models, partition)
                self._tell(partition + 1)
            if models is not None:
                compare_counts(models, settings.partitions, self._counts, self._report)
        except KafkaException as error:
            raise VerifyError(f"Kafka can't be read: {error.args[0].str()}; try again.") from error
        finally:
            log.close()
            if models is not None:
                models.close()
        self._report.seconds = time.monotonic() - started
        return self._report

    def _check_partitions(self, log: Log) -> None:
        count = log.partitions(Topic.EVENTS)
        if count != self._settings.partitions:
            raise VerifySettingsError(
                f"The events of cell '{self._settings.cell}' have {count} partitions, not "
                f"{self._settings.partitions}: set JOBLEDGER_PARTITIONS={count}."
            )

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(self._report.events, done, self._settings.partitions)

    def _partition(self, log: Log, models: ReadModels | None, partition: int) -> None:
        settings, report = self._settings, self._report
        # In this order: whatever is an event now stands in the state that is read after it.
        last_event = log.last_event_seq(partition)
        machine = read_machine(log, partition, settings.cell, settings.partitions, last_event)
        try:
            at = report.state_vector[partition] = machine.checkpoint.seq
            if at < last_event:
                report.add(f"partition {partition}, state", "checkpoint's seq", f"at least {last_event}", at)
            state = StateFold(machine, report, round(settings.dedup_window_seconds * 1000))
            shown = models.vector.get(partition, 0) if models else 0
            rows = ReadModelFold(partition, models, report) if models else None
            reached = self._fold_events(log, partition, (state, at), (rows, shown))
            if reached < max(at, shown):
                report.add(f"partition {partition}, events", "last seq", max(at, shown), reached)
            if reached >= at:
                state.finish()
            if rows is not None:
                rows.finish()
                for table, count in rows.counts.items():
                    self._counts.setdefault(table, {})[partition] = count
        finally:
            machine.retained.close()

    def _fold_events(
        self, log: Log, partition: int, state: tuple[StateFold, int], rows: tuple[ReadModelFold | None, int]
    ) -> int:
        """Fold events up to where state and read models stand; returns the last seq."""
        (state_fold, at), (row_fold, shown) = state, rows
        seq, wanted = 0, max(at, shown)
        deadline = time.monotonic() + CATCH_UP_SECONDS
        if wanted == 0:
            return 0
        for message in log.read(Topic.EVENTS, partition, log.watermarks(Topic.EVENTS, partition)[0]):
            if message is None:
                if time.monotonic() > deadline:
                    return seq
                continue
            deadline = time.monotonic() + CATCH_UP_SECONDS
            record = self._read(message, partition)
            if record is None:
                continue
            if record.seq != seq + 1:
                self._report.add(f"partition {partition}, events", f"offset {message.offset()}", seq + 1, record.seq)
                if record.seq <= seq:
                    continue
            seq = record.seq
            if seq <= at:
                state_fold.fold(record)
            if row_fold is not None and seq <= shown:
                row_fold.fold(self._as_shown(message, record), message.value() or b"")
            if seq >= wanted:
                return seq
        return seq

    def _read(self, message: Message, partition: int) -> EventRecord | None:
        try:
            record = self._mapper.read(type_header(message), message.value() or b"")
        except (UnknownEventTypeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._set_aside(message, partition, error)
            return None
        self._report.events += 1
        if self._report.events % _PROGRESS_EVERY == 0:
            self._tell(partition)
        return record

    def _set_aside(self, message: Message, partition: int, error: Exception) -> None:
        """Bytes without an event's envelope are none: were they one, the next would show a gap. Readers do the same."""
        try:
            decode_head(message.value() or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._report.foreign += 1
            return
        if isinstance(error, UnknownEventTypeError):
            raise VerifyError(f"Partition {partition}, offset {message.offset()}: {error}") from error
        self._report.add(f"partition {partition}, events", f"offset {message.offset()}", "an event", str(error))

    def _as_shown(self, message: Message, record: EventRecord) -> EventRecord:
        """The event as the read models hold it: without characters that Postgres can't hold."""
        value = message.value() or b""
        return self._reader.read(value, message.headers) if _NUL in value else record
