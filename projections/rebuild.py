"""`jobledger projection rebuild`: the read models made anew beside the live ones, compared, switched at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message
from psycopg import sql

from jobledger.eventlog.clients import KafkaConnection, consumer_config
from jobledger.eventlog.partitions import PartitionReader, Taken
from jobledger.eventlog.positions import Vector
from jobledger.projections.compare import Difference, compare_snapshots, schema_snapshot
from jobledger.projections.event_batch import EventBatch, ProjectionStoppedError
from jobledger.projections.event_reader import EventReader
from jobledger.projections.migrate import migrate
from jobledger.projections.tables import BESIDE, TABLES
from jobledger.projections.writer import Writer, connect
from jobledger.schemas.topics import Topic, topic_name
from jobledger.telemetry.logs import get_logger

log = get_logger()

MAX_BATCH = 5_000
#: So long without a new event, though the live tables show that there are more, is an error.
STALL_SECONDS = 60.0
LOCK_ATTEMPTS = 20
LOCK_TIMEOUT = "2s"


class RebuildError(RuntimeError):
    """The rebuild can't be done; the live read models are as before. The message says what to do."""


@dataclass(frozen=True, kw_only=True)
class RebuildConfig:
    """What to rebuild. `keep_old`: the replaced schema stays, under a name of its own.

    `accept_differences`: switch although the live rows are not what the log says.
    """

    kafka: KafkaConnection
    cell: str
    dsn: str = field(repr=False)
    schema: str = "jobledger"
    keep_old: bool = False
    accept_differences: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a rebuild is. `step`: fold, compare or switch."""

    step: str
    events: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What came of it. `differences`: the first of them (expected: as rebuilt, found: as they were live)."""

    switched: bool
    events: int
    vector: Vector
    differences: list[Difference]
    old_schema: str | None


Report = Callable[[Progress], None]


def rebuild(config: RebuildConfig, report: Report = lambda progress: None) -> Rebuilt:
    """Rebuild the read models from the log while projectors and apis go on; blocks until done.

    Without differences, or when they are accepted, the new schema takes the place of the live one in one
    transaction; running projectors go on in it without a break. Else it is dropped. Raises RebuildError,
    ProjectionStoppedError, psycopg.Error or KafkaException.
    """
    new = f"{config.schema}_rebuild"
    with _only_one(config), _refold(config, new) as refold:
        log.info("rebuild_started", schema=new)
        live = refold.live_vector()
        refold.to(live, report)
        found = _compare(config, refold, new, report)
        if found and not config.accept_differences:
            _drop(config.dsn, new)
            return Rebuilt(
                switched=False, events=refold.events, vector=refold.vector, differences=found, old_schema=None
            )
        refold.to(refold.live_vector(), report)
        _analyze(config.dsn, new)
        old = _switch(config, refold, new, report)
        log.info("rebuild_switched", schema=config.schema)
        if not config.keep_old:
            _drop(config.dsn, old)
        return Rebuilt(
            switched=True,
            events=refold.events,
            vector=refold.vector,
            differences=found,
            old_schema=old if config.keep_old else None,
        )


class Refold:
    """Folds the log from its beginning into the new schema, exactly as far as it is told."""

    def __init__(self, config: RebuildConfig, writer: Writer, reader: PartitionReader) -> None:
        self._config = config
        self._writer = writer
        self._reader = reader
        self._topic = topic_name(config.cell, Topic.EVENTS)
        self._events = EventReader()
        self.vector: Vector = {}
        self.events = 0

    def live_vector(self) -> Vector:
        """How far the live tables are now."""
        with psycopg.connect(self._config.dsn, autocommit=True) as connection:
            return _vector(connection, self._config.schema)

    def to(self, wanted: Vector, report: Report = lambda progress: None) -> None:
        """Fold up to `wanted` and no event further; waits for events that aren't there yet, 60 s at most."""
        at = self._writer.positions(wanted)
        self.vector = {partition: position.seq for partition, position in at.items()}
        starts = {partition: position.next_offset for partition, position in at.items()}
        progressed = time.monotonic()
        with closing(self._reader.follow(self._topic, starts, most=MAX_BATCH)) as batches:
            while any(at[partition].seq < seq for partition, seq in wanted.items()):
                messages = self._next(batches)
                batch = EventBatch(self._events, at, until=wanted)
                batch.add(messages)
                if batch.advances():
                    batch = batch.write(self._writer, messages)
                    at.update(batch.reached)
                    self.vector = {partition: position.seq for partition, position in at.items()}
                    self.events += len(batch.changes.events)
                    progressed = time.monotonic()
                    report(Progress(step="fold", events=sum(self.vector.values()), of=sum(wanted.values())))
                elif time.monotonic() - progressed > STALL_SECONDS:
                    self._stalled(wanted)

    def _next(self, batches: Iterator[Taken]) -> list[Message]:
        try:
            return next(batches).records
        except KafkaException as error:
            if error.args[0].code() != KafkaError._AUTO_OFFSET_RESET:
                raise
            raise RebuildError(
                f"'{self._topic}' does not begin with its first event: {error.args[0].str()}."
            ) from error

    def _stalled(self, wanted: Vector) -> NoReturn:
        if self._reader.passing is not None:
            raise KafkaException(self._reader.passing)
        raise RebuildError(
            f"The live read models are at {wanted}, but '{self._topic}' gives nothing beyond {self.vector}: "
            f"the log has lost events, or this is another cell's."
        )


@contextmanager
def _only_one(config: RebuildConfig) -> Iterator[None]:
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        name = f"jobledger/{config.schema}/rebuild"
        got = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]).fetchone()
        if not got or not got[0]:
            raise RebuildError(f"Schema '{config.schema}' is being rebuilt by another process; wait for its end.")
        if not _exists(connection, config.schema):
            raise RebuildError(f"There is no schema '{config.schema}' to rebuild; start a projector, which makes it.")
        yield


@contextmanager
def _refold(config: RebuildConfig, new: str) -> Iterator[Refold]:
    _drop(config.dsn, new)  # what an earlier rebuild left when it was killed
    migrate(config.dsn, new)
    writer = Writer(connect(config.dsn, new))
    try:
        with PartitionReader(consumer_config(config.kafka, "projection-rebuild", f"{config.cell}-rebuild")) as reader:
            reader.partitions(topic_name(config.cell, Topic.EVENTS))  # a Kafka that is away is told of at once
            yield Refold(config, writer, reader)
    finally:
        writer.close()


def _compare(config: RebuildConfig, refold: Refold, new: str, report: Report) -> list[Difference]:
    """Hold a snapshot of the live tables, bring the new ones to exactly its position, and compare."""
    with schema_snapshot(config.dsn, config.schema) as live:
        refold.to(live.vector)
        total = sum(live.vector.values())
        report(Progress(step="compare", events=total, of=total))
        with schema_snapshot(config.dsn, new) as rebuilt:
            return compare_snapshots(rebuilt, live)


def _switch(config: RebuildConfig, refold: Refold, new: str, report: Report) -> str:
    """Exchange the schemas; returns the name of the replaced one.

    Every transaction of a projector begins by updating `positions` and every snapshot by reading it, so a lock
    on it holds them while the last events are folded; then both find the new tables under the old name, at the
    same position.
    """
    old = f"{config.schema}_old_{int(time.time())}"
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_TIMEOUT))
        for _ in range(LOCK_ATTEMPTS):
            try:
                with connection.transaction():
                    lock = sql.SQL("LOCK TABLE {}.positions IN ACCESS EXCLUSIVE MODE")
                    connection.execute(lock.format(sql.Identifier(config.schema)))
                    wanted = _vector(connection, config.schema)
                    refold.to(wanted)
                    _take_along(connection, config.schema, new)
                    rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
                    connection.execute(rename.format(sql.Identifier(config.schema), sql.Identifier(old)))
                    connection.execute(rename.format(sql.Identifier(new), sql.Identifier(config.schema)))
            except psycopg.errors.LockNotAvailable:
                continue
            total = sum(wanted.values())
            report(Progress(step="switch", events=total, of=total))
            return old
    raise RebuildError("Long transactions hold the live tables; end them (pg_stat_activity) and try again.")


def _take_along(connection: psycopg.Connection, live: str, new: str) -> None:
    """What stands beside the read models and comes of no event moves as it is."""
    for table in map(sql.Identifier, BESIDE):
        connection.execute(sql.SQL("DROP TABLE {}.{}").format(sql.Identifier(new), table))
        connection.execute(
            sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(sql.Identifier(live), table, sql.Identifier(new))
        )


def _vector(connection: psycopg.Connection, schema: str) -> Vector:
    statement = sql.SQL("SELECT partition, seq FROM {}.positions").format(sql.Identifier(schema))
    return dict(connection.execute(statement).fetchall())


def _exists(connection: psycopg.Connection, schema: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is not None


def _analyze(dsn: str, schema: str) -> None:
    """New tables have no statistics until somebody looks; queries would start with bad plans."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(sql.SQL("ANALYZE {}.{}").format(sql.Identifier(schema), sql.Identifier(table.name)))


def _drop(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


__all__ = ["Progress", "ProjectionStoppedError", "RebuildConfig", "RebuildError", "Rebuilt", "rebuild"]
