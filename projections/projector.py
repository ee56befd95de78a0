"""The projector: a member of the consumer group that folds `<cell>.events` into Postgres."""

from __future__ import annotations

import time

import psycopg
import stamina
from confluent_kafka import KafkaError, KafkaException, Message

from jobledger.eventlog.clients import consumer_config, is_fatal
from jobledger.eventlog.group_reader import GroupReader
from jobledger.projections.event_batch import EventBatch, ProjectionStoppedError
from jobledger.projections.event_reader import EventReader
from jobledger.projections.spans import export_applied
from jobledger.projections.writer import DeposedError, Position, Writer, connect
from jobledger.schemas.topics import Topic, changed_sentence, topic_name
from jobledger.settings import Settings
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import ThreadService
from jobledger.telemetry.traces import Tracing

log = get_logger()

MAX_BATCH = 5_000
POLL_SECONDS = 0.2
#: Under load a batch begins at the earliest this long after the one before, so that each carries more.
PACE_SECONDS = 0.025
#: A batch of fewer events doesn't count as load: what comes next goes at once.
PACE_FROM = 20
REPORT_SECONDS = 1.0
SLOW_QUERY_SECONDS = 1.0
SEEK_ATTEMPTS = 100
SEEK_PAUSE_SECONDS = 0.05
#: Errors of Postgres that pass: the batch is dropped and read again from the log.
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError)


class Projector(ThreadService):
    """Reads its share of the partitions in a thread of its own and writes batch after batch.

    `topic_id`: the broker's id of the topic of events; '': not known. Without a configured instance id it is no static
    member of its group.

    Positions stand in Postgres, in the same transaction as the rows; those committed to Kafka are for lag
    tools alone. A Postgres or Kafka that is away is waited for. What can't be projected ends it: `wait()` raises
    ProjectionStoppedError.
    """

    name = "projector"

    def __init__(
        self, settings: Settings, metrics: Metrics, topic_id: str = "", tracing: Tracing | None = None
    ) -> None:
        super().__init__()
        self._settings = settings
        self._topic_id = topic_id
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._topic = topic_name(settings.cell, Topic.EVENTS)
        self._events = EventReader()
        self._reader: GroupReader | None = None
        self._writer: Writer | None = None
        self._at: dict[int, Position] = {}
        self._at_end: set[int] = set()
        self._lags: dict[int, float] = {}
        self._aside: dict[int, int] = {}
        self._reported = 0.0
        self._last_write = 0.0
        self._connected = True

    # -- the part of a process ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the group; the tables have to be there (`migrate`)."""
        self._reported = time.monotonic()
        self._begin(self._run, "projector")

    @property
    def positions(self) -> dict[int, int]:
        """`seq` applied by partition, of the partitions projected here."""
        return {partition: position.seq for partition, position in self._at.copy().items()}

    @property
    def lags(self) -> dict[int, float]:
        """Seconds behind by partition, of the partitions projected here, when last looked at."""
        return self._lags.copy()

    @property
    def silent_seconds(self) -> float:
        """How long ago that was; one that works looks every second, one that Postgres holds up does not."""
        return time.monotonic() - self._reported

    @property
    def set_aside(self) -> int:
        """Events of the partitions projected here that change no row, since their job had ended before."""
        return sum(self._aside.copy().values())

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Finishes the batch under way and leaves the group when it is to stop."""
        try:
            self._project()
        except _StoppedError:
            pass
        finally:
            if self._reader is not None:
                self._reader.close()
            if self._writer is not None:
                self._writer.close()

    def _project(self) -> None:
        self._writer = self._connect()
        reader = self._reader = GroupReader(self._consumer_config(), self._topic, self._assigned, self._revoked)
        while not self._stopping.is_set():
            messages = self._take(reader)
            if messages:
                self._apply(messages)
            self._report(reader)

    def _consumer_config(self) -> dict[str, str | int | float | bool]:
        settings = self._settings
        config = consumer_config(settings.kafka, settings.instance_id or "projector", f"{settings.cell}-projector")
        config["session.timeout.ms"] = int(settings.session_timeout_seconds * 1000)
        config["heartbeat.interval.ms"] = int(settings.session_timeout_seconds * 1000 / 5)
        if settings.instance_id:
            config["group.instance.id"] = settings.instance_id
        return config

    def _take(self, reader: GroupReader) -> list[Message]:
        """What is there, waiting a moment for the first. Never waits for more while the system is idle."""
        taken = reader.take(POLL_SECONDS, MAX_BATCH, self._pace)
        self._at_end -= {message.partition() or 0 for message in taken.records}
        self._at_end |= taken.at_end()
        for partition, error in taken.errors:
            self._on_error(error, partition)
        return taken.records

    def _pace(self) -> None:
        rest = self._last_write + PACE_SECONDS - time.monotonic()
        if rest > 0:
            time.sleep(rest)

    def _on_error(self, error: KafkaError, partition: int) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise ProjectionStoppedError(
                f"The next event of partition {partition} is not in '{self._topic}' any more, or the topic is another "
                f"one than the read models were made from ({error.str()}): restore it, or use a new schema."
            )
        if is_fatal(error):
            raise ProjectionStoppedError(
                f"Kafka has put this projector out of its group: {error.str()}. Start it again; if that comes back, "
                f"give each projector its own JOBLEDGER_INSTANCE_ID."
            )
        log.error("queue_connection_lost", error=error.str())

    def _apply(self, messages: list[Message]) -> None:
        batch = EventBatch(self._events, self._at)
        batch.add(messages)
        advances = batch.advances()
        if not advances:
            return
        begun = time.monotonic()
        try:
            assert self._writer is not None
            batch = batch.write(self._writer, messages)
        except DeposedError:
            for advance in advances:
                log.warning("projection_deposed", partition=advance.partition, seq=advance.expected)
            self._resync()
            return
        except _PASSING as error:
            log.warning("projection_batch_retried", partition=advances[0].partition, error=str(error))
            self._reconnect(error)
            return
        self._at.update(batch.reached)
        export_applied(self._tracing, batch.traced)
        for partition, _ in batch.changes.set_aside:
            self._aside[partition] = self._aside.get(partition, 0) + 1
        count = len(batch.changes.events)
        taken = time.monotonic() - begun
        if taken > SLOW_QUERY_SECONDS:
            log.warning("slow_query", query=f"a batch of {count} events", duration_ms=round(taken * 1000))
        self._last_write = begun if count >= PACE_FROM else 0.0
        self._metrics.inc("jobledger_projected_events_total", count)

    # -- where the partitions stand -----------------------------------------------------------------------------------

    def _connect(self) -> Writer:
        """A connection to Postgres, however long it takes; raises _StoppedError when stopped meanwhile."""
        dsn, schema = self._settings.postgres_dsn.get_secret_value(), self._settings.postgres_schema
        attempts = stamina.retry_context(
            on=_PASSING, attempts=None, timeout=None, wait_initial=0.05, wait_max=2.0, wait_jitter=0.2
        )
        for attempt in attempts:
            with attempt:
                if self._stopping.is_set():
                    raise _StoppedError
                try:
                    writer = Writer(connect(dsn, schema))
                except _PASSING as error:
                    self._database_lost(error)
                    raise
        if not self._connected:
            self._connected = True
            log.info("db_connection_restored")
        return writer

    def _database_lost(self, error: Exception) -> None:
        self._metrics.inc("scheduler_db_connection_errors_total")
        if self._connected:
            self._connected = False
            log.error("db_connection_lost", error=str(error))

    def _reconnect(self, error: Exception) -> None:
        """After an error nothing is known: connect anew, and go on from what the tables say."""
        self._database_lost(error)
        self._resync(reconnect=True)

    def _read_positions(self, partitions: list[int], *, reconnect: bool = False) -> dict[int, Position]:
        """Where partitions stand in the tables, and how many of their events are set aside there."""
        while True:
            if reconnect:
                if self._writer is not None:
                    self._writer.close()
                self._writer = self._connect()
            try:
                assert self._writer is not None
                found = self._writer.positions(partitions)
                self._check_topic(self._writer, partitions)
                self._aside.update(self._writer.set_aside(partitions))
                return found
            except _PASSING as error:
                self._database_lost(error)
                reconnect = True

    def _check_topic(self, writer: Writer, partitions: list[int]) -> None:
        if not self._topic_id:
            return
        other = writer.take_topic(partitions, self._topic_id, accept=self._settings.accept_new_topics)
        if other is not None:
            raise ProjectionStoppedError(changed_sentence(self._topic, other, self._topic_id))

    def _resync(self, *, reconnect: bool = False) -> None:
        """Go on from the positions in the tables, whatever was read or written before."""
        self._at = self._read_positions(list(self._at), reconnect=reconnect)
        for partition, position in self._at.items():
            self._seek(partition, position.next_offset)

    def _seek(self, partition: int, offset: int) -> None:
        """A partition that was assigned a moment ago may not be ready for it yet."""
        assert self._reader is not None
        try:
            for attempt in stamina.retry_context(
                on=KafkaException,
                attempts=SEEK_ATTEMPTS,
                timeout=None,
                wait_initial=SEEK_PAUSE_SECONDS,
                wait_max=SEEK_PAUSE_SECONDS,
                wait_jitter=0.0,
            ):
                with attempt:
                    if self._stopping.is_set():
                        raise _StoppedError
                    self._reader.seek(partition, offset)
        except KafkaException as error:
            raise ProjectionStoppedError(
                f"Partition {partition} of '{self._topic}' can't be read from offset {offset}."
            ) from error

    def _assigned(self, partitions: list[int]) -> dict[int, int]:
        found = self._read_positions(partitions)
        self._at.update(found)
        for number, position in found.items():
            log.info("projection_assigned", partition=number, seq=position.seq)
        return {partition: position.next_offset for partition, position in found.items()}

    def _revoked(self, partitions: list[int]) -> None:
        for partition in partitions:
            position = self._at.pop(partition, None)
            self._at_end.discard(partition)
            self._lags.pop(partition, None)
            self._aside.pop(partition, None)
            self._metrics.drop_matching(partition=partition)
            log.info("projection_revoked", partition=partition, seq=position.seq if position else 0)

    # -- what others see ----------------------------------------------------------------------------------------------

    def _report(self, reader: GroupReader) -> None:
        """Gauges, and the offsets for lag tools; once a second."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        for partition, position in self._at.items():
            lag_events, lag_seconds = self._lag(reader, partition, position)
            self._lags[partition] = lag_seconds
            self._metrics.set("jobledger_projection_position", position.seq, partition=partition)
            self._metrics.set(
                "jobledger_projection_set_aside_events", self._aside.get(partition, 0), partition=partition
            )
            self._metrics.set("jobledger_projection_lag_events", lag_events, partition=partition)
            self._metrics.set("jobledger_projection_lag_seconds", lag_seconds, partition=partition)
        reader.commit({partition: position.next_offset for partition, position in self._at.items()})

    def _lag(self, reader: GroupReader, partition: int, position: Position) -> tuple[int, float]:
        """Records to the end (transaction markers among them) and the age of the last event applied."""
        if partition in self._at_end:
            return 0, 0.0
        behind = reader.behind(partition, position.next_offset)
        age = time.time() - position.last_event_at_ms / 1000 if behind and position.last_event_at_ms else 0.0
        return behind, max(age, 0.0)


class _StoppedError(Exception):
    """`stop()` was called while something was waited for."""
