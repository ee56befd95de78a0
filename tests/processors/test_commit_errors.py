"""A fault at each step of a transaction on a real broker; afterwards the fold of the events is the owner's memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from log_cell import LogCell, OwnerAlone, PlayedWorker, submit, until

from jobledger.domain.job.commands import CancelJob
from jobledger.domain.values import Opaque
from jobledger.processors import kafka_log
from jobledger.processors.core.state_records import CHECKPOINT_KEY
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.replay.log import Log
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]

Fault = Callable[["FaultyProducer", str, tuple[Any, ...], dict[str, Any]], Any]


class FaultyProducer:
    """A real producer; `fault` is asked before each call while it is set, and may call, change or raise."""

    def __init__(self, real: Producer, log: FaultyLog) -> None:
        self.real = real
        self._log = log

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            fault = self._log.fault
            if fault is None:
                return getattr(self.real, name)(*args, **kwargs)
            return fault(self, name, args, kwargs)

        return call


class FaultyLog(KafkaPartitionLog):
    """The product's log over a faulty producer."""

    fault: Fault | None = None

    def _open(self, take: Any) -> Any:
        recovered = super()._open(take)
        assert self._producer is not None
        self._producer = FaultyProducer(self._producer, self)  # type: ignore[assignment]
        return recovered

    def once(
        self, method: str, act: Callable[[Producer, tuple[Any, ...], dict[str, Any]], Any], after: int = 0
    ) -> None:
        """`act` instead of one call of a method, the one behind the first `after` calls."""
        left = after

        def fault(producer: FaultyProducer, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal left
            if name == method:
                left -= 1
                if left < 0:
                    self.fault = None
                    return act(producer.real, args, kwargs)
            return getattr(producer.real, name)(*args, **kwargs)

        self.fault = fault


def too_large(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    topic, _, *rest = args
    producer.produce(topic, b"x" * 5_000_000, *rest, **kwargs)


def queue_full(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise BufferError("Local: Queue full")


def times_out_for_real(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    producer.commit_transaction(0.000001)


def commits_without_an_answer(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    producer.commit_transaction(*args)
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def answer_lost_before_the_commit(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def no_offsets(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    offsets, metadata, _ = args
    offsets[0].partition = 999
    producer.send_offsets_to_transaction(offsets, metadata, 3.0)


FAULTS = [
    pytest.param("produce", too_large, 0, id="first record too large"),
    pytest.param("produce", too_large, 3, id="a later record too large"),
    pytest.param("produce", queue_full, 2, id="queue of the client full"),
    pytest.param("commit_transaction", times_out_for_real, 0, id="commit times out once"),
    pytest.param("commit_transaction", commits_without_an_answer, 0, id="committed, but the answer is lost"),
    pytest.param("commit_transaction", answer_lost_before_the_commit, 0, id="not committed, and no answer"),
    pytest.param("send_offsets_to_transaction", no_offsets, 0, id="group offset refused"),
]


async def some_work(cell: LogCell, partition: int, queue: str, count: int = 12) -> list[str]:
    """Submissions to jobs of a partition, one of them cancelled; gives the command ids."""
    streams = [cell.job_on(partition) for _ in range(count)]
    body = submit(queue=queue)
    sent = [await cell.send(stream, body) for stream in streams]
    sent.append(await cell.send(streams[0], CancelJob()))
    return sent


@pytest.mark.parametrize(("method", "act", "after"), FAULTS)
async def test_after_a_fault_everything_is_decided_once(
    log_cell: LogCell, start_owner: Any, method: str, act: Any, after: int
) -> None:
    """Each command gets exactly one accepting outcome, and events, memory and state agree."""
    log = FaultyLog(log_cell.kafka, log_cell.cell, 0, "test")
    owner: OwnerAlone = await start_owner(0, log=log)
    worker = PlayedWorker(log_cell, queue := log_cell.queue_on(0))
    await worker.register()
    before = await some_work(log_cell, 0, queue)
    await log_cell.outcome(before[-1])
    if method == "send_offsets_to_transaction":
        log._group_offset_at = 0.0
    log.once(method, act, after)
    during = await some_work(log_cell, 0, queue)
    for command in during:
        await log_cell.outcome(command)
    assert log.fault is None, "the fault did not happen"
    behind = await some_work(log_cell, 0, queue)
    await log_cell.outcome(behind[-1])
    for task in await until(lambda: len(worker.tasks()) >= 10 and worker.tasks()):
        await worker.succeed(task)
    assert await owner.agreement() == []
    for command in before + during + behind:
        assert [o.status for o in log_cell.outcomes[command]] == [OutcomeStatus.ACCEPTED]
    reopened = 0 if act is times_out_for_real else 1
    assert len(owner.observer.reopenings) == reopened, owner.observer.reopenings
    assert log_cell.quarantined == []


async def test_a_command_whose_record_the_broker_refuses_is_set_aside_alone(
    log_cell: LogCell, start_owner: Any
) -> None:
    """The others of its batch are decided; it is quarantined and answered; nothing of it is in the log."""
    await asyncio.to_thread(_limit_events, log_cell, 60_000)
    owner: OwnerAlone = await start_owner(0)
    queue = log_cell.queue_on(1)
    good = [await log_cell.send(log_cell.job_on(0), submit(queue=queue)) for _ in range(5)]
    bad_stream = log_cell.job_on(0)
    bad = await log_cell.send(bad_stream, submit(queue=queue, payload=Opaque('"' + "x" * 100_000 + '"')))
    good += [await log_cell.send(log_cell.job_on(0), submit(queue=queue)) for _ in range(5)]
    refused = await log_cell.outcome(bad, seconds=60)
    assert refused.status is OutcomeStatus.REJECTED
    assert refused.rejection is not None and refused.rejection.code == "UNDECIDABLE"
    for command in good:
        assert (await log_cell.outcome(command)).status is OutcomeStatus.ACCEPTED
    assert await owner.agreement() == []
    assert bad_stream not in {event.originator_id for event in log_cell.events(0)}
    await until(lambda: [bad in q.text for q in log_cell.quarantined] == [True])


def _limit_events(cell: LogCell, size: int) -> None:
    admin = AdminClient(cell.kafka.client_config())
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, cell.topic(Topic.EVENTS), incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    asked = ConfigResource(ResourceType.TOPIC, cell.topic(Topic.EVENTS))
    deadline = time.monotonic() + 10
    while admin.describe_configs([asked])[asked].result(10)["max.message.bytes"].value != str(size):
        assert time.monotonic() < deadline, "the broker has not taken it up"


async def test_a_transaction_over_its_time_is_decided_again(
    log_cell: LogCell, start_owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker aborts it, which looks like a deposition; the owner opens anew and decides once more."""
    # A process that stands still as a whole: its guard against calls that hang stands still too.
    monkeypatch.setattr(kafka_log, "STUCK_SECONDS", 20.0)
    log = FaultyLog(log_cell.kafka, log_cell.cell, 0, "test")
    log._producer_config["transaction.timeout.ms"] = 1_000
    owner: OwnerAlone = await start_owner(0, log=log)

    def stall(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        producer.flush(5)
        _until_aborted(log_cell)
        producer.commit_transaction(*args)

    log.once("commit_transaction", stall)
    sent = await some_work(log_cell, 0, log_cell.queue_on(0), 4)
    for command in sent:
        await log_cell.outcome(command, seconds=40)
    assert [reason for _, reason, _ in owner.observer.reopenings] == ["fenced"]
    assert await owner.agreement() == []
    assert all(len(log_cell.outcomes[command]) == 1 for command in sent)


def _until_aborted(cell: LogCell) -> None:
    """The broker looks for such transactions every ten seconds; one that is open holds up the end of what is read."""
    reader = Log(cell.kafka, cell.cell)
    open_since = reader.watermarks(Topic.STATE, 0)[1]
    deadline = time.monotonic() + 15
    while reader.watermarks(Topic.STATE, 0)[1] == open_since:
        assert time.monotonic() < deadline, "the broker has not ended the transaction"
        time.sleep(0.1)
    reader.close()


@pytest.mark.scenario("an owner is fenced")
async def test_an_owner_stopped_between_flush_and_commit_is_fenced(log_cell: LogCell, start_owner: Any) -> None:
    """Another one takes over meanwhile: what the first had written is not seen, and it writes nothing any more."""
    log = FaultyLog(log_cell.kafka, log_cell.cell, 0, "old")
    zombie: OwnerAlone = await start_owner(0, log=log, confirm_seconds=120)
    going_on, standing = threading.Event(), threading.Event()

    def stand(producer: Producer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        producer.flush(5)
        standing.set()
        going_on.wait(30)
        producer.commit_transaction(*args)

    log.once("commit_transaction", stand)
    sent = await some_work(log_cell, 0, log_cell.queue_on(0), 4)
    await until(standing.is_set)
    begun = time.monotonic()
    heir: OwnerAlone = await start_owner(0)
    for command in sent:
        await log_cell.outcome(command)
    assert time.monotonic() - begun < 10
    going_on.set()
    await until(lambda: zombie.observer.reopenings)
    assert [reason for _, reason, _ in zombie.observer.reopenings] == ["fenced"]
    sent += await some_work(log_cell, 0, log_cell.queue_on(0), 4)
    await log_cell.outcome(sent[-1])
    assert await heir.agreement() == []
    assert all(len(log_cell.outcomes[command]) == 1 for command in sent)
    assert heir.observer.reopenings == []


async def test_every_transaction_writes_its_checkpoint(log_cell: LogCell, start_owner: Any) -> None:
    """The broker accepts a deposed owner's empty transaction, so an owner must never commit one."""
    plans = []

    class Watched(KafkaPartitionLog):
        async def commit(self, plan: Any) -> None:
            plans.append(plan)
            await super().commit(plan)

    owner: OwnerAlone = await start_owner(0, log=Watched(log_cell.kafka, log_cell.cell, 0, "old"), confirm_seconds=120)
    sent = await some_work(log_cell, 0, log_cell.queue_on(1), 4)
    await log_cell.outcome(sent[-1])
    await asyncio.sleep(1.5)
    assert all(CHECKPOINT_KEY in plan.state for plan in plans)
    deposed = owner.log._producer
    assert deposed is not None
    await start_owner(0)
    deposed.begin_transaction()
    deposed.commit_transaction(5)  # as the notes say: it succeeds, and says nothing
