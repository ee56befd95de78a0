"""Broken records, repeats, and commands that come when their stream is over, on a real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from log_cell import USER, LogCell, OwnerAlone, PlayedWorker, encoded, submit, until
from uuid_utils.compat import uuid7

from jobledger.domain.identity import job_stream, key_stream, partition_of, queue_stream
from jobledger.domain.job.commands import CancelJob, TaskWithdrawn
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import SYSTEM, Opaque
from jobledger.schemas.commands import Command, encode_command
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]

BROKEN = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\xff\xfe\x00", id="not text"),
    pytest.param(b"{not json", id="invalid JSON"),
    pytest.param(b"[]", id="another shape"),
    pytest.param(b'{"commands":"x"}', id="another type"),
    pytest.param(b'{"commands":' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="nested deeply"),
]


@pytest.mark.parametrize("value", BROKEN)
async def test_a_broken_record_is_set_aside_and_the_partition_goes_on(
    log_cell: LogCell, start_owner: Any, value: bytes
) -> None:
    owner: OwnerAlone = await start_owner(0)
    await log_cell.raw(Topic.COMMANDS, 0, value)
    answer = await log_cell.ask(log_cell.job_on(0), submit(queue=log_cell.queue_on(1)))
    assert answer.status is OutcomeStatus.ACCEPTED
    await until(lambda: len(log_cell.quarantined) == 1)
    assert log_cell.quarantined[0].partition == 0
    assert b"".join(one.data for one in log_cell.quarantined) == value
    assert owner.observer.quarantined == 1
    assert owner.observer.reopenings == [] and await owner.agreement() == []


async def test_a_null_value_is_set_aside(log_cell: LogCell, start_owner: Any) -> None:
    owner: OwnerAlone = await start_owner(0)
    await log_cell.producer.send(log_cell.topic(Topic.COMMANDS), 0, None)  # type: ignore[arg-type]
    assert (await log_cell.ask(log_cell.job_on(0), submit())).status is OutcomeStatus.ACCEPTED
    await until(lambda: len(log_cell.quarantined) == 1)
    assert owner.observer.reopenings == []


async def test_a_broken_command_in_a_good_record_is_set_aside_alone(log_cell: LogCell, start_owner: Any) -> None:
    """Its neighbours are decided; if it asked for an answer it gets one."""
    owner: OwnerAlone = await start_owner(0)
    streams = [log_cell.job_on(0) for _ in range(6)]
    good = [Command(id=str(uuid7()), stream=s, actor=USER, body=submit(), reply=True) for s in streams]
    raw = [encode_command(command) for command in good]
    raw[1] = raw[1].replace(b'"job.submit.v1"', b'"job.explode.v9"')
    raw[2] = raw[2].replace(b'"priority":3', b"").replace(b'"handler":"noop"', b'"handler":7')
    raw[3] = b"42"
    raw[4] = raw[4].replace(streams[4].encode(), b"nonsense")
    await log_cell.raw(Topic.COMMANDS, 0, b'{"commands":[' + b",".join(raw) + b"]}")
    for place in (0, 5):
        assert (await log_cell.outcome(good[place].id)).status is OutcomeStatus.ACCEPTED
    for place, code in ((1, "INVALID"), (2, "INVALID"), (4, "UNDECIDABLE")):
        refused = await log_cell.outcome(good[place].id)
        assert refused.rejection is not None and refused.rejection.code == code
    await until(lambda: len(log_cell.quarantined) == 4)
    assert owner.observer.quarantined == 4
    assert owner.observer.reopenings == [] and await owner.agreement() == []


async def test_foreign_bytes_on_the_other_topics_stop_no_takeover(log_cell: LogCell, start_owner: Any) -> None:
    """Events, state, outcomes, heartbeats and tasks are nobody else's to write; if somebody does, owners go on."""
    first: OwnerAlone = await start_owner(0)
    await log_cell.ask(log_cell.job_on(0), submit(queue=log_cell.queue_on(1)))
    await first.caught_up()
    await first.stop()
    for value in (b"", b"\xff\x00", b"{", b'{"hello":1}'):
        await log_cell.raw(Topic.EVENTS, 0, value)
        await log_cell.raw(Topic.STATE, 0, value, b"zzz|" + value)
        await log_cell.raw(Topic.HEARTBEATS, 0, value)
    heir: OwnerAlone = await start_owner(0)
    assert heir.owner.serving and heir.observer.reopenings == []
    assert (await log_cell.ask(log_cell.job_on(0), submit())).status is OutcomeStatus.ACCEPTED


# -- repeats ----------------------------------------------------------------------------------------------------------


async def test_the_same_command_five_times_takes_effect_once(log_cell: LogCell, start_owner: Any) -> None:
    """In one record, in several, before and after a takeover: the first outcome each time."""
    first: OwnerAlone = await start_owner(0)
    stream = log_cell.job_on(0)
    command = Command(id=str(uuid7()), stream=stream, actor=USER, body=submit(queue=log_cell.queue_on(1)), reply=True)
    await log_cell.send_record([command, command])
    await log_cell.send_record([command])
    await log_cell.outcome(command.id, 3)
    await first.stop()
    heir: OwnerAlone = await start_owner(0)
    await log_cell.send_record([command, command])
    await log_cell.outcome(command.id, 5)
    outcomes = log_cell.outcomes[command.id]
    assert [o.duplicate for o in outcomes] == [False, True, True, True, True]
    assert {(o.status, o.stream, o.seq, o.partition) for o in outcomes} == {
        (OutcomeStatus.ACCEPTED, stream, outcomes[1].seq, 0)
    } | {(OutcomeStatus.ACCEPTED, stream, outcomes[0].seq, 0)}
    assert sum(e.originator_id == stream and e.originator_version == 1 for e in log_cell.events(0)) == 1
    assert await heir.agreement() == []


def keyed(cell: LogCell, key: str, **given: Any) -> tuple[int, Any]:
    """The partition of an idempotency key and a submission that carries it."""
    partition = partition_of(key_stream("default", key), cell.partitions)
    return partition, submit(key_digest=key, **{"request_digest": "r1", **given})


async def test_an_idempotency_key_stands_for_one_job(log_cell: LogCell, start_owner: Any) -> None:
    """With new command ids and new job ids, alive, ended and after a takeover; another request under it is refused."""
    partition, body = keyed(log_cell, "key-1", queue=log_cell.queue_on(1))
    owner: OwnerAlone = await start_owner(partition)
    streams = [log_cell.job_on(partition) for _ in range(6)]
    answers = [await log_cell.ask(stream, body) for stream in streams[:3]]
    assert {a.stream for a in answers} == {streams[0]}
    assert [a.duplicate for a in answers] == [False, True, True]
    _, other = keyed(log_cell, "key-1", request_digest="r2", payload=Opaque("2"))
    refused = await log_cell.ask(streams[3], other)
    assert refused.rejection is not None and refused.rejection.code == "IDEMPOTENCY_KEY_REUSED"
    assert refused.rejection.field == "idempotencyKey"
    await log_cell.ask(streams[0], CancelJob())
    await log_cell.send(streams[0], TaskWithdrawn(task="main", assignment=1), reply=False, actor=SYSTEM)
    await until(lambda: not owner.machine.streams["job"])
    await owner.stop()
    heir: OwnerAlone = await start_owner(partition)
    again = await log_cell.ask(streams[4], body)
    assert (again.stream, again.duplicate, again.status_after) == (streams[0], True, "CANCELLED")
    assert (await log_cell.ask(streams[5], other)).status is OutcomeStatus.REJECTED
    created = [e.originator_id for e in log_cell.events(partition) if e.originator_version == 1]
    assert [s for s in created if s in streams] == [streams[0]]
    assert await heir.agreement() == []


async def run_to_the_end(cell: LogCell, owner: OwnerAlone, stream: str, queue: str) -> None:
    worker = PlayedWorker(cell, queue)
    await worker.register()
    await cell.ask(stream, submit(queue=queue), stream)
    for task in await until(worker.tasks):
        await worker.succeed(task)
    await until(lambda: stream not in owner.machine.streams["job"])


async def test_a_submission_after_the_end_gets_its_first_outcome(log_cell: LogCell, start_owner: Any) -> None:
    """The stub answers, here and after a takeover; a cancel is told how the job ended."""
    owner: OwnerAlone = await start_owner(0)
    queue, stream = log_cell.queue_on(0), log_cell.job_on(0)
    await run_to_the_end(log_cell, owner, stream, queue)
    first = log_cell.outcomes[stream][0]
    for take in range(2):
        repeat = await log_cell.ask(stream, submit(queue=queue), stream)
        await log_cell.outcome(stream, take + 2)
        repeat = log_cell.outcomes[stream][-1]
        assert repeat.duplicate and repeat.status_after == "SUCCEEDED" and repeat.status is OutcomeStatus.ACCEPTED
        assert repeat.seq <= first.seq
        late = await log_cell.ask(stream, CancelJob())
        assert (
            late.status_after == "SUCCEEDED" and late.rejection is not None and late.rejection.code == "ALREADY_ENDED"
        )
        if take == 0:
            await owner.stop()
            owner = await start_owner(0)
    assert sum(e.originator_version == 1 and e.originator_id == stream for e in log_cell.events(0)) == 1
    assert await owner.agreement() == []


async def test_after_the_window_nothing_is_kept_of_an_ended_job(log_cell: LogCell, start_owner: Any) -> None:
    """Stub and key become tombstones; the id says itself that it is too old to begin a second life."""
    owner: OwnerAlone = await start_owner(0, window_ms=500)
    queue, stream = log_cell.queue_on(0), log_cell.job_on(0)
    await run_to_the_end(log_cell, owner, stream, queue)
    assert [key for key, _ in owner.machine.retained.items()]
    await asyncio.sleep(0.7)
    await log_cell.ask(log_cell.job_on(0), submit(queue=queue))
    assert [key for key, _ in owner.machine.retained.items()] == []
    again = await log_cell.ask(stream, submit(queue=queue))
    assert again.rejection is not None and (again.rejection.code, again.rejection.field) == ("INVALID", "commandId")
    assert sum(e.originator_version == 1 and e.originator_id == stream for e in log_cell.events(0)) == 1
    await owner.stop()
    last = {m.key(): m.value() for m in log_cell.records(Topic.STATE, 0)}
    assert last[b"e|" + stream.encode()] is None and last[b"s|" + stream.encode()] is None


# -- the outbox of another partition ----------------------------------------------------------------------------------


async def test_records_of_an_outbox_are_taken_in_order_and_once(log_cell: LogCell, start_owner: Any) -> None:
    """Repeats and what lies beyond a gap are dropped, before and after a takeover."""
    owner: OwnerAlone = await start_owner(0)
    queue = queue_stream("default", log_cell.queue_on(0))

    def enqueue(number: int) -> list[Command]:
        body = qc.EnqueueTask(
            job=job_stream("default", f"j{number}"),
            task="main",
            assignment=1,
            execution_id="e",
            attempt=1,
            handler="noop",
            priority=3,
            payload=Opaque("1"),
            due_at_ms=1,
            ready_at_ms=1,
        )
        return [Command(id=f"n{number}", stream=queue, actor=SYSTEM, body=body)]

    for number in (1, 1, 3, 4, 2, 1, 2, 4, 3, 3):
        await log_cell.send_record(enqueue(number), source=2, number=number)
    await log_cell.send_record(enqueue(11), source=3, number=1)
    await owner.caught_up()
    assert owner.machine.checkpoint.received == {2: 3, 3: 1}
    await owner.stop()
    heir: OwnerAlone = await start_owner(0)
    for number in (2, 3, 5, 4, 4, 6, 5):
        await log_cell.send_record(enqueue(number), source=2, number=number)
    await heir.caught_up()
    assert heir.machine.checkpoint.received == {2: 5, 3: 1}
    taken = [e.data.job for e in log_cell.events(0) if type(e.data).__name__ == "TaskEnqueued"]  # type: ignore[union-attr]
    assert [job.rpartition(":")[2] for job in taken] == ["j1", "j2", "j3", "j11", "j4", "j5"]
    assert await heir.agreement() == []


async def test_what_cannot_be_encoded_as_text_is_shown_all_the_same(log_cell: LogCell, start_owner: Any) -> None:
    """The quarantine holds the text of a broken record as far as it is text."""
    await start_owner(0)
    await log_cell.raw(Topic.COMMANDS, 0, encoded({"commands": [1]}) + b"\xff")
    await until(lambda: log_cell.quarantined)
    assert log_cell.quarantined[0].text.startswith('{"commands":[1]}')
