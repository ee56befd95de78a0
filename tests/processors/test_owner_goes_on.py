"""What must not stop an owner, or make it turn without a pause, once its partition has seen trouble."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from log_cell import LogCell, OwnerAlone, submit, until

from jobledger.domain.job.events import JobSubmitted, TaskReady
from jobledger.eventlog.clients import consumer_config
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.ports import RefusedRecordError
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.processors.heartbeats import HeartbeatBook
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic
from jobledger.telemetry.service import StandingService

pytestmark = [pytest.mark.kafka]


class RefusingLog(KafkaPartitionLog):
    """The product's log; it refuses a transaction that submits to `refused`, as a broker does for its size."""

    refused = ""

    async def commit(self, plan: Plan) -> None:
        if any(r.originator_id == self.refused and isinstance(r.data, JobSubmitted) for r in plan.records):
            raise RefusedRecordError("too large")
        await super().commit(plan)


async def test_timers_fire_behind_a_command_that_was_set_aside(log_cell: LogCell, start_owner: Any) -> None:
    """After failures commands are decided one at a time; with none left, what is due must start all the same."""
    log = RefusingLog(log_cell.kafka, log_cell.cell, 0, "test")
    log.refused = log_cell.job_on(0)
    owner: OwnerAlone = await start_owner(0, log=log)
    bad = await log_cell.send(log.refused, submit(queue=log_cell.queue_on(0)))
    assert (await log_cell.outcome(bad, seconds=60)).status is OutcomeStatus.REJECTED
    assert owner.owner._single_left > 0, "commands are decided one at a time now"
    due = int(time.time() * 1000) + 300
    later = log_cell.job_on(0)
    await log_cell.ask(later, submit(queue=log_cell.queue_on(0), due_at_ms=due))
    await until(lambda: [e for e in log_cell.events(0) if e.originator_id == later and isinstance(e.data, TaskReady)])
    assert await owner.agreement() == []


async def test_marks_of_somebodys_transactions_are_no_lost_commands(log_cell: LogCell, start_owner: Any) -> None:
    """Offsets of `commands` may have holes while its beginning is there; in the middle, at the end, at a takeover."""
    owner: OwnerAlone = await start_owner(0)

    def write(commit: bool) -> None:
        producer = Producer({**log_cell.kafka.client_config(), "transactional.id": f"{log_cell.cell}-stranger"})
        producer.init_transactions(10)
        producer.begin_transaction()
        producer.produce(log_cell.topic(Topic.COMMANDS), b"somebody else's", partition=0)
        producer.flush(10)
        (producer.commit_transaction if commit else producer.abort_transaction)(10)

    for commit in (True, False, True):
        await asyncio.to_thread(write, commit)
        assert (await log_cell.ask(log_cell.job_on(0), submit())).status is OutcomeStatus.ACCEPTED
    await asyncio.to_thread(write, True)
    await owner.stop()
    heir: OwnerAlone = await start_owner(0)
    assert (await log_cell.ask(log_cell.job_on(0), submit())).status is OutcomeStatus.ACCEPTED
    assert await heir.agreement() == []
    assert owner.observer.refusals == heir.observer.refusals == []


async def test_a_producer_that_can_never_send_again_ends_the_heartbeat_book(log_cell: LogCell) -> None:
    """Without probes no lease would ever end, so the process must not go on as if all were well."""
    book = HeartbeatBook(
        log_cell.producer,
        log_cell.topic(Topic.HEARTBEATS),
        consumer_config(log_cell.kafka, "test", f"{log_cell.cell}-heartbeats"),
        "nonce",
        WatchedClock(SystemClock(), 500),
    )
    await book.start()
    waiting = asyncio.ensure_future(book.wait())

    def never_again(*args: Any, **kwargs: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", True))

    log_cell.producer.send = never_again  # type: ignore[method-assign]
    with pytest.raises(KafkaException):
        await asyncio.wait_for(waiting, 5)
    del log_cell.producer.send
    await book.stop()


class RefusedReader(StandingService):
    """A reader that the broker does not let read, as without the right to."""

    async def start(self) -> None:
        self._stand()
        self._end(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))


async def test_a_reader_that_ends_before_the_first_probe_has_come_back_ends_the_start(log_cell: LogCell) -> None:
    """It would wait for ever, without a word."""
    book = HeartbeatBook(log_cell.producer, log_cell.topic(Topic.HEARTBEATS), {}, "nonce", SystemClock())
    book._reader = RefusedReader()  # type: ignore[assignment]
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        await asyncio.wait_for(book.start(), 5)
    await book.stop()


class StuckProducer:
    """A producer whose group offsets are never answered, as after the death of a broker."""

    def __init__(self, real: Producer, let_go: threading.Event) -> None:
        self._real, self._let_go = real, let_go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self._let_go.wait()
        raise KafkaException(KafkaError(KafkaError._STATE))


class StuckLog(KafkaPartitionLog):
    """The product's log; its first producer gets stuck."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.let_go = threading.Event()
        self.opened = 0

    def _open(self, take: Any) -> Any:
        recovered = super()._open(take)
        self.opened += 1
        if self.opened == 1:
            assert self._producer is not None
            self._producer = StuckProducer(self._producer, self.let_go)  # type: ignore[assignment]
        return recovered


async def test_a_call_of_the_client_that_never_comes_back_does_not_hold_the_partition(
    log_cell: LogCell, start_owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka may lose the answer to a request when a broker dies; the owner opens anew and decides once more."""
    monkeypatch.setattr("jobledger.processors.kafka_log.STUCK_OFFSET_SECONDS", 1.0)
    log = StuckLog(log_cell.kafka, log_cell.cell, 0, "test")
    owner: OwnerAlone = await start_owner(0, log=log)
    try:
        asked = await log_cell.ask(log_cell.job_on(0), submit())
    finally:
        log.let_go.set()
    assert asked.status is OutcomeStatus.ACCEPTED
    assert log.opened == 2 and "has not come back" in owner.observer.reopenings[0][2]
    assert len(log_cell.outcomes[asked.command_id]) == 1
    assert await owner.agreement() == []


async def test_another_request_under_a_used_command_id_is_refused(log_cell: LogCell, start_owner: Any) -> None:
    """While the job lives; the same request again is a duplicate."""
    await start_owner(0)
    stream = log_cell.job_on(0)
    first = await log_cell.ask(stream, submit(request_digest="a" * 64), "c-1")
    assert first.status is OutcomeStatus.ACCEPTED
    other = await log_cell.ask(stream, submit(request_digest="b" * 64), "c-2")
    assert other.status is OutcomeStatus.REJECTED and other.rejection is not None
    assert (other.rejection.code, other.rejection.field) == ("IDEMPOTENCY_KEY_REUSED", "commandId")
    again = await log_cell.ask(stream, submit(request_digest="a" * 64), "c-3")
    assert again.duplicate
