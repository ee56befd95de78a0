"""Commands that an owner reads from the log by itself: nothing is made up for what cannot be read, nothing refused."""

from __future__ import annotations

from typing import Any

import pytest
from log_cell import USER, submit, until
from owner_in_memory import OwnerInMemory, PartitionInMemory, new_job
from uuid_utils.compat import uuid7

from jobledger.eventlog.partitions import Taken
from jobledger.processors.core.machine import LostCommandError
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.schemas.commands import NO_COMMANDS, Command, CommandRecord, encode_record
from jobledger.settings import KafkaSettings


class Message:
    def __init__(self, offset: int) -> None:
        self.at = offset

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return b"real%d" % self.at


def log_that_holds(offsets: list[int], *, low: int, told_end: int, read_until: int) -> KafkaPartitionLog:
    """The product's log over a partition as its clients show it: `told_end` by one broker, records by another."""
    log = KafkaPartitionLog(KafkaSettings(), "c", 0, "i")

    class Reader:
        def bounds(self, topic: str, partition: int, seconds: float) -> tuple[int, int]:
            return low, told_end

        def to_end(self, topic: str, partition: int, start: int, **_: Any) -> Any:
            yield Taken([Message(offset) for offset in offsets if offset >= start], {0: read_until}, [])  # type: ignore[misc]

    log._reader = Reader()  # type: ignore[assignment]
    return log


def test_only_between_records_that_were_read_an_offset_counts_as_empty() -> None:
    """A leader that is behind the former one ends at 12; what is said to be up to 20 is not there yet, not empty."""
    log = log_that_holds([8, 10, 11], low=0, told_end=20, read_until=12)
    assert log._commands_from(8, 100) == [(8, b"real8"), (9, NO_COMMANDS), (10, b"real10"), (11, b"real11")]
    assert log._commands_from(12, 100) == []


def test_marks_of_transactions_at_the_end_are_passed() -> None:
    log = log_that_holds([8], low=0, told_end=11, read_until=11)
    assert log._commands_from(8, 100) == [(8, b"real8"), (9, NO_COMMANDS), (10, NO_COMMANDS)]


def test_what_is_gone_from_the_beginning_is_lost() -> None:
    log = log_that_holds([], low=9, told_end=9, read_until=0)
    with pytest.raises(LostCommandError, match="8 to 8 are not in the log any more"):
        log._commands_from(8, 100)


class LateLog(PartitionInMemory):
    """A log that tells of records before it gives them."""

    hidden = True

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        return [] if self.hidden else await super().commands_from(offset, limit)


async def test_commands_that_come_late_are_decided_and_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition is not closed for them; when they do not come for too long the log is opened anew."""
    monkeypatch.setattr("jobledger.processors.core.owner.MISSING_SECONDS", 0.5)
    owner = OwnerInMemory()
    streams = [new_job(str(uuid7())) for _ in range(3)]
    for stream in streams:
        command = Command(id=stream, stream=stream, actor=USER, body=submit(), reply=True)
        owner.log.partitions[0].commands.append(encode_record(CommandRecord(commands=[command])))
    late = LateLog(owner.log, 0)
    owner.owner._log = late
    await owner.start()
    await until(lambda: owner.observer.reopenings)
    assert "cannot be read" in owner.observer.reopenings[0][2]
    assert owner.observer.refusals == [] and not owner.outcomes
    late.hidden = False
    for stream in streams:
        await owner.decided(stream)
    await owner.stop()
