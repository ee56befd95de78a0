"""What an owner makes of records that other partitions and other releases send."""

from __future__ import annotations

import pytest
from memory_owner import Decider, MemoryOwner, jobs_on, submit, wait_for
from memory_owner import job as new_job

from jobledger.processors.clock import SystemClock
from jobledger.processors.core import owner as owners
from jobledger.processors.core.machine import UnknownCommandError
from jobledger.processors.observer import TelemetryObserver
from jobledger.schemas.commands import WRITER, BrokenCommand, ForeignCommand, encode_command, join_record, read_record
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.telemetry.metrics import Metrics

NEWER = "99.1.0"


def test_a_gap_is_remembered_until_it_closes() -> None:
    """Through takeovers too: the checkpoint has it."""
    streams = jobs_on(0, 2, 4)
    one = Decider(0, 2)
    one.machine.checkpoint.received[1] = 5
    for number in (7, 8):
        one.feed(submit(streams[0]), source=1, number=number)
    one.settle()
    assert one.machine.checkpoint.ahead == {1: 8} and not one.records
    assert one.rebuilt().checkpoint.ahead == {1: 8}
    one.feed(submit(streams[1]), source=1, number=6)
    one.settle()
    assert one.machine.checkpoint.ahead == {1: 8}, "7 and 8 were dropped: they have to come again"
    for number in (7, 8):
        one.feed(submit(streams[number - 6]), source=1, number=number)
    one.settle()
    assert one.machine.checkpoint.ahead == {} and one.machine.checkpoint.received[1] == 8


async def test_a_gap_that_stays_raises_an_alarm_and_shows_as_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "GAP_SECONDS", 0.1)
    streams = jobs_on(0, 2, 3)
    async with MemoryOwner(0, 2) as one:
        one.feed(submit(streams[0]), source=1, number=3)
        await wait_for(lambda: one.observer.all("gaps"))
        assert one.observer.all("gaps") == [({1: (1, 3)},)]
        assert one.owner.trouble is not None and "partition(s) 1" in one.owner.trouble
        for number in (1, 2, 3):
            one.feed(submit(streams[number - 1]), source=1, number=number)
        await wait_for(lambda: len(one.observer.all("gaps")) == 2)
        assert one.observer.all("gaps")[1] == ({},) and one.owner.trouble is None


async def test_a_gap_that_closes_in_time_is_no_alarm() -> None:
    """What was sent again arrives a moment later."""
    streams = jobs_on(0, 2, 2)
    async with MemoryOwner(0, 2) as one:
        one.feed(submit(streams[1]), source=1, number=2)
        await wait_for(lambda: one.machine.checkpoint.ahead)
        one.feed(submit(streams[0]), source=1, number=1)
        one.feed(submit(streams[1]), source=1, number=2)
        await one.outcome(streams[1])
        assert one.machine.checkpoint.ahead == {} and one.observer.all("gaps") == []


def raw(stream: str, *, body: bytes = b'"job.submit.v1"', instead: bytes, writer: str | None = NEWER) -> bytes:
    """A record with a good command, one of which `body` is replaced, and another good one."""
    good, other, last = (encode_command(submit(name)) for name in (stream, new_job("b"), new_job("c")))
    record = join_record([good, other.replace(body, instead), last])
    written = b'"writer":"%s",' % WRITER.encode()
    assert record.count(written) == 1
    return record.replace(written, b"" if writer is None else b'"writer":"%s",' % writer.encode())


UNKNOWN = [
    pytest.param(b'"job.submit.v1"', b'"job.submit.v7"', id="a type"),
    pytest.param(b'"kind":"user"', b'"kind":"robot"', id="a value"),
]


@pytest.mark.parametrize(("body", "instead"), UNKNOWN)
async def test_the_owner_stops_at_a_command_of_another_release(body: bytes, instead: bytes) -> None:
    """What stands before it is decided; it is kept, and the refusal names the version that wrote it."""
    (stream,) = jobs_on(0, 1, 1)
    async with MemoryOwner() as one:
        one.raw(raw(stream, body=body, instead=instead))
        await wait_for(lambda: one.owner.refusal)
        assert one.owner.refusal is not None and NEWER in one.owner.refusal and WRITER in one.owner.refusal
        assert one.observer.all("refused") == [(one.owner.refusal,)]
        assert one.log.outcomes[stream].status is OutcomeStatus.ACCEPTED
        assert list(one.log.outcomes) == [stream]
        assert not [entry for plan in one.log.plans for entry in plan.outbox if entry.topic_letter == "q"]
    async with MemoryOwner(log=one.log) as heir:
        await wait_for(lambda: heir.owner.refusal)
        assert heir.log.outcomes.keys() == {stream}, "an owner of the same release stops there again"


def test_it_stops_at_once_when_the_command_comes_first() -> None:
    one = Decider()
    (stream,) = jobs_on(0, 1, 1)
    one.raw(raw(stream, instead=b'"job.submit.v7"'))
    one.turn()
    with pytest.raises(UnknownCommandError, match=NEWER):
        one.turn()


@pytest.mark.parametrize("writer", [None, WRITER, "yes", "", "1", "9" * 50])
def test_what_no_other_release_has_written_is_set_aside(writer: str | None) -> None:
    """Our own version would know its types; and nobody stops a partition by some text."""
    (stream,) = jobs_on(0, 1, 1)
    one = Decider()
    one.raw(raw(stream, instead=b'"job.submit.v7"', writer=writer))
    one.settle()
    assert [outcome.status for outcome in one.outcomes] == [
        OutcomeStatus.ACCEPTED,
        OutcomeStatus.REJECTED,
        OutcomeStatus.ACCEPTED,
    ]


def test_a_malformed_command_of_another_release_is_set_aside() -> None:
    """A missing or mistyped field is no news of a later release."""
    (stream,) = jobs_on(0, 1, 1)
    read = read_record(raw(stream, body=b'"handler":"work"', instead=b'"handler":7'))
    assert isinstance(read.commands[1], BrokenCommand)
    read = read_record(raw(stream, instead=b'"job.submit.v7"'))
    assert isinstance(read.commands[1], ForeignCommand) and read.commands[1].writer == NEWER


def test_records_say_which_version_wrote_them() -> None:
    assert join_record([]).startswith(b'{"writer":"%s"' % WRITER.encode())


@pytest.mark.scenario(
    "a partition misses commands",
    emits=(
        "outbox_gap",
        "jobledger_outbox_gaps",
    ),
)
def test_gaps_are_counted_by_partition() -> None:
    """The gauge goes with the partition."""
    metrics = Metrics("scheduler", instance_id="t")
    observer = TelemetryObserver(metrics, SystemClock(), "t")
    observer.opened(3, 0.1, 0)
    observer.gaps(3, {1: (4, 9)})
    assert b"jobledger_outbox_gaps{" in metrics.render()[0]
    observer.closed(3, "stopped")
    assert b"jobledger_outbox_gaps{" not in metrics.render()[0]
