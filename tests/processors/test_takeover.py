"""What an owner finds when it takes over: logs cut short, a clock that went back, a state full of dead records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from log_cell import DURABILITY, LogCell, OwnerAlone, PlayedWorker, submit, until

from jobledger.eventlog.topics import TopicError, ensure_topics
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.recovery import LatestState
from jobledger.processors.core.state_records import snapshot_key
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]


async def fill(cell: LogCell, start_owner: Any, partition: int, jobs: int) -> None:
    """An owner decides some jobs, then stops."""
    owner: OwnerAlone = await start_owner(partition)
    queue = cell.queue_on(partition)
    sent = [await cell.send(cell.job_on(partition), submit(queue=queue)) for _ in range(jobs)]
    await cell.outcome(sent[-1])
    await owner.stop()


def written_anew(cell: LogCell, topic: Topic, keep: Callable[[int, list[Message]], list[Message]]) -> None:
    """The topic as a broker would have it that lost records: made again with what `keep` leaves of each partition."""
    kept = {p: keep(p, cell.records(topic, p)) for p in range(cell.partitions)}
    cell.delete_topic(topic)
    cell.create_topic(topic)
    producer = Producer({**cell.kafka.client_config(), "linger.ms": 5})
    for partition, messages in kept.items():
        for message in messages:
            producer.produce(
                cell.topic(topic), message.value(), message.key(), partition, headers=message.headers() or []
            )
    assert producer.flush(15) == 0


@pytest.mark.scenario("a log is damaged")
async def test_events_cut_from_the_end_close_their_partition_alone(log_cell: LogCell, start_owner: Any) -> None:
    """Ten events of partition 0 are gone: its owner says how many there are and should be; partition 1 is served."""
    for partition in (0, 1):
        await fill(log_cell, start_owner, partition, 12)
    seq = len(log_cell.events(0))
    await asyncio.to_thread(written_anew, log_cell, Topic.EVENTS, lambda p, m: m[:-10] if p == 0 else m)
    cut: OwnerAlone = await start_owner(0)
    assert cut.owner.refusal == (
        f"Partition 0: the last event in the log is number {seq - 10}, but the checkpoint says {seq}. "
        f"Records were lost; the partition stays closed. Run `jobledger replay verify`."
    )
    assert cut.observer.refusals == [cut.owner.refusal] and not cut.owner.serving
    whole: OwnerAlone = await start_owner(1)
    answer = await log_cell.ask(log_cell.job_on(1), submit(queue=log_cell.queue_on(1)))
    assert answer.status is OutcomeStatus.ACCEPTED
    assert await whole.agreement() == []
    assert len(log_cell.events(0)) == seq - 10, "a closed partition was written to"


async def test_commands_cut_from_the_end_close_their_partition(log_cell: LogCell, start_owner: Any) -> None:
    """New commands would stand where old ones were, and be taken for repeats: the owner refuses."""
    await fill(log_cell, start_owner, 0, 12)
    await asyncio.to_thread(written_anew, log_cell, Topic.COMMANDS, lambda p, m: m[:-5])
    cut: OwnerAlone = await start_owner(0)
    assert cut.owner.refusal is not None
    assert "the log of commands ends at offset 7, but the checkpoint says that 12 comes next" in cut.owner.refusal


async def test_commands_cut_before_the_checkpoint_are_missed_by_nobody(log_cell: LogCell, start_owner: Any) -> None:
    """Retention takes what was decided long ago; a takeover goes on behind it."""
    await fill(log_cell, start_owner, 0, 12)
    admin = AdminClient(log_cell.kafka.client_config())
    await asyncio.to_thread(_delete_until, admin, log_cell, 9)
    owner: OwnerAlone = await start_owner(0)
    answer = await log_cell.ask(log_cell.job_on(0), submit(queue=log_cell.queue_on(1)))
    assert answer.status is OutcomeStatus.ACCEPTED
    assert await owner.agreement() == []


async def test_commands_deleted_before_they_were_decided_close_their_partition(
    log_cell: LogCell, start_owner: Any
) -> None:
    """A hole between the checkpoint and the first command that is left is never jumped over."""
    await fill(log_cell, start_owner, 0, 5)
    for _ in range(6):
        await log_cell.send(log_cell.job_on(0), submit())
    await asyncio.to_thread(_delete_until, AdminClient(log_cell.kafka.client_config()), log_cell, 8)
    owner: OwnerAlone = await start_owner(0)
    await until(lambda: owner.owner.refusal)
    assert "the next command record has offset 8, expected 5" in (owner.owner.refusal or "")


def _delete_until(admin: AdminClient, cell: LogCell, offset: int) -> None:
    from confluent_kafka import TopicPartition

    at = TopicPartition(cell.topic(Topic.COMMANDS), 0, offset)
    for future in admin.delete_records([at]).values():
        future.result(10)


async def test_time_never_runs_backwards_over_a_takeover(log_cell: LogCell, start_owner: Any) -> None:
    """The heir's clock is five seconds behind: its events bear the predecessor's last time until it has caught up."""
    first: OwnerAlone = await start_owner(0)
    queue = log_cell.queue_on(0)
    before = await log_cell.ask(log_cell.job_on(0), submit(queue=queue))
    due = before.at_ms + 1_500
    scheduled = log_cell.job_on(0)
    await log_cell.ask(scheduled, submit(queue=queue, due_at_ms=due))
    await first.stop()
    heir: OwnerAlone = await start_owner(0, clock=SystemClock(offset_ms=-5_000))
    after = [await log_cell.ask(log_cell.job_on(0), submit(queue=queue)) for _ in range(5)]
    assert min(outcome.at_ms for outcome in after) >= before.at_ms
    await until(lambda: any(e.originator_id == scheduled and e.at_ms >= due for e in log_cell.events(0)), pause=0.5)
    events = log_cell.events(0)
    times = [event.at_ms for event in events]
    assert times == sorted(times)
    ready = [e for e in events if e.originator_id == scheduled and e.originator_version == 2]
    assert ready[0].at_ms >= due
    assert await heir.agreement() == []


def _kill_many(cell: LogCell, partition: int, keys: int, rounds: int) -> None:
    """Snapshots of jobs that ended, which no compaction has removed yet: values over and over, then tombstones."""
    admin = AdminClient(cell.kafka.client_config())
    entries = {"segment.ms": "3600000", "min.cleanable.dirty.ratio": "1.0", "max.compaction.lag.ms": "86400000"}
    configs = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in entries.items()]
    resource = ConfigResource(ResourceType.TOPIC, cell.topic(Topic.STATE), incremental_configs=configs)
    admin.incremental_alter_configs([resource])[resource].result(10)
    producer = Producer(
        {**cell.kafka.client_config(), "linger.ms": 20, "batch.size": 1_000_000, "acks": "1",
         "queue.buffering.max.messages": 2_000_000}
    )  # fmt: skip
    value, topic = b"job/1|" + b"x" * 250, cell.topic(Topic.STATE)
    names = [snapshot_key(f"job:default:{n:036d}") for n in range(keys)]
    for turn in range(rounds):
        for name in names:
            producer.produce(topic, None if turn == rounds - 1 else value, name, partition)
            producer.poll(0)
    assert producer.flush(120) == 0


@pytest.mark.timeout(300)
async def test_a_million_dead_records_are_read_by_the_batch(
    log_cell: LogCell, start_owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not been compacted away yet is taken hundreds at a time: one by one costs half as much time again."""
    await fill(log_cell, start_owner, 0, 5)
    await asyncio.to_thread(_kill_many, log_cell, 0, 100_000, 10)
    sizes: list[int] = []

    def take(self: LatestState, records: list[tuple[bytes, bytes | None]]) -> None:
        sizes.append(len(records))
        taking(self, records)

    taking = LatestState.take
    monkeypatch.setattr(LatestState, "take", take)
    owner: OwnerAlone = await start_owner(0)
    print(f"takeover over 1,000,000 dead records: {owner.observer.took[0]:.2f} s, {len(sizes)} batches")
    assert sum(sizes) >= 1_000_000 and len(sizes) < sum(sizes) / 250
    assert (await log_cell.ask(log_cell.job_on(0), submit())).status is OutcomeStatus.ACCEPTED
    assert await owner.agreement() == []


async def test_an_heir_sends_what_is_left_of_the_outbox(log_cell: LogCell, start_owner: Any) -> None:
    """The owner dies right behind a commit, before it has sent anything; nothing is lost, nothing comes twice."""
    from jobledger.processors.core.owner import Owner

    queue = log_cell.queue_on(1)
    first: OwnerAlone = await start_owner(0)
    first.relay.send = lambda *_: None  # type: ignore[method-assign] - it dies before its sends
    sent = [await log_cell.send(log_cell.job_on(0), submit(queue=queue)) for _ in range(20)]
    for command in sent:
        await log_cell.outcome(command)
    await first.stop()
    assert isinstance(first.owner, Owner) and log_cell.records(Topic.COMMANDS, 1) == []
    worker = PlayedWorker(log_cell, queue, credits=30)
    other: OwnerAlone = await start_owner(1)
    await worker.register()
    heir: OwnerAlone = await start_owner(0)
    for task in await until(lambda: len(worker.tasks()) == 20 and worker.tasks()):
        await worker.succeed(task)
    await until(lambda: not heir.machine.streams["job"])
    assert await heir.agreement() == [] and await other.agreement() == []


# -- topics -----------------------------------------------------------------------------------------------------------


async def test_topics_of_another_size_are_refused(log_cell: LogCell) -> None:
    with pytest.raises(TopicError, match=r"has 4 partitions, but the cell has 8, fixed for ever: set JOBLEDGER_PARTIT"):
        await asyncio.to_thread(ensure_topics, log_cell.kafka.client_config(), log_cell.cell, 8, DURABILITY)


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        (Topic.EVENTS, "retention.ms", "86400000"),
        (Topic.EVENTS, "retention.bytes", "1000000"),
        (Topic.EVENTS, "cleanup.policy", "compact"),
        (Topic.STATE, "cleanup.policy", "delete"),
        (Topic.COMMANDS, "retention.ms", "60000"),
        (Topic.EVENTS, "max.message.bytes", "1000"),
    ],
)
async def test_topics_that_would_lose_records_are_refused(
    log_cell: LogCell, topic: Topic, key: str, value: str
) -> None:
    """The sentence names topic, setting and value, and the command that repairs it."""
    admin = AdminClient(log_cell.kafka.client_config())
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, log_cell.topic(topic), incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(10)
    found = await until(lambda: faults(log_cell), 5)  # the broker takes a moment to tell of the change
    name = log_cell.topic(topic)
    assert f"Topic '{name}' has {key}={value}, but the log protocol needs" in found
    assert f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}=" in found


def faults(cell: LogCell) -> str:
    """What a starting scheduler has to say about the topics."""
    try:
        ensure_topics(cell.kafka.client_config(), cell.cell, cell.partitions, DURABILITY)
    except TopicError as error:
        return str(error)
    return ""
