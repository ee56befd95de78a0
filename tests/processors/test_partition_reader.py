"""The one reader of Kafka, over a client that gives what a test says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from jobledger.eventlog import partitions
from jobledger.eventlog.partitions import PartitionReader, SilentLogError

END = KafkaError._PARTITION_EOF
AWAY = KafkaError._ALL_BROKERS_DOWN
GONE = KafkaError._AUTO_OFFSET_RESET


class Given:
    """A record, the end of a partition, or an error."""

    def __init__(self, offset: int, code: int | None = None, partition: int = 0) -> None:
        self._at, self._partition = offset, partition
        self._error = None if code is None else KafkaError(code)

    def error(self) -> KafkaError | None:
        return self._error

    def offset(self) -> int:
        return self._at

    def partition(self) -> int:
        return self._partition


class Scripted:
    """A client that gives one list of messages after the other, then nothing."""

    def __init__(self, *batches: list[Given]) -> None:
        self.batches = list(batches)
        self.leaders_missing = 0
        self.assigned: list[Any] = []

    def assign(self, wanted: list[Any]) -> None:
        self.assigned = wanted

    def unassign(self) -> None:
        self.assigned = []

    def poll(self, seconds: float) -> Given | None:
        if not self.batches:
            return None
        return self.batches[0].pop(0) if self.batches[0] else self.batches.pop(0) and None

    def consume(self, most: int, seconds: float) -> list[Given]:
        return self.batches.pop(0)

    def get_watermark_offsets(self, at: Any, timeout: float) -> tuple[int, int]:
        if self.leaders_missing:
            self.leaders_missing -= 1
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return 3, 9


@pytest.fixture
def reader_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def make(*batches: list[Given]) -> tuple[PartitionReader, Scripted]:
        client = Scripted(*batches)
        monkeypatch.setattr(partitions, "Consumer", lambda config, **_: client)
        return PartitionReader({}), client

    return make


def offsets(taken: Any) -> list[int]:
    return [message.offset() for message in taken.records]


def test_a_partition_is_read_to_its_end_over_errors_that_pass(reader_of: Any) -> None:
    reader, client = reader_of([Given(0), Given(1)], [Given(0, AWAY, -1)], [Given(2), Given(4, END)], [Given(4)])
    batches = list(reader.to_end("t", 0, 0, step_seconds=0))
    assert [offsets(taken) for taken in batches] == [[0, 1], [], [2]]
    assert batches[-1].ends == {0: 4}
    assert client.assigned == [] and client.batches, "what is behind the end is left"


def test_an_error_that_stays_is_raised(reader_of: Any) -> None:
    reader, _ = reader_of([Given(0)], [Given(0, GONE)])
    batches = reader.follow("t", {0: 0})
    assert offsets(next(batches)) == [0]
    with pytest.raises(KafkaException) as caught:
        next(batches)
    assert caught.value.args[0].code() == GONE


def test_the_end_is_passed_when_a_record_comes_behind_it(reader_of: Any) -> None:
    reader, _ = reader_of([Given(3, END), Given(3)], [Given(4, END), Given(8, partition=1)])
    first, second = reader.take(), reader.take()
    assert (first.ends, first.at_end()) == ({0: 3}, set())
    assert second.at_end() == {0}


def test_one_silent_partition_is_told_although_the_others_give(reader_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, client = reader_of([Given(0), Given(0, partition=1)])
    ticks = count(0, 0.01)
    monkeypatch.setattr(partitions.time, "monotonic", lambda: next(ticks))
    batches = reader.follow("t", {0: 0, 1: 0}, silence_seconds=1, step_seconds=0)
    next(batches)
    with pytest.raises(SilentLogError, match=r"'t' \[1\] gave nothing"):
        for number in range(1, 1_000):
            client.batches = [[Given(number)]]
            next(batches)


def test_silence_is_told_with_what_the_connection_said(reader_of: Any) -> None:
    """A caller that takes long is no silence, nor is a partition at its end."""
    reader, client = reader_of([Given(0)])
    batches = reader.follow("t", {0: 0}, silence_seconds=0.05, step_seconds=0)
    next(batches)
    time.sleep(0.1)
    assert not next(batches).records, "the silence begins when it is read on"
    time.sleep(0.1)
    with pytest.raises(SilentLogError, match=r"'t' \[0\] gave nothing for 0 s\.$"):
        next(batches)
    client.batches = [[Given(1, END)]]
    batches = reader.follow("t", {0: 0}, silence_seconds=0.05, step_seconds=0)
    next(batches)
    time.sleep(0.1)
    assert not next(batches).records
    client.batches = [[Given(0, AWAY, -1)]]
    batches = reader.follow("t", {0: 0}, silence_seconds=0.05, step_seconds=0)
    next(batches)
    time.sleep(0.1)
    with pytest.raises(SilentLogError, match="gave nothing") as caught:
        next(batches)
    assert caught.value.passing is not None and caught.value.passing.code() == AWAY


def test_a_reading_that_is_closed_late_does_not_end_the_next_one(reader_of: Any) -> None:
    reader, client = reader_of([Given(0)], [Given(5)])
    first = reader.follow("t", {0: 0})
    next(first)
    second = reader.follow("t", {1: 5})
    next(second)
    first.close()
    assert [at.partition for at in client.assigned] == [1]
    second.close()
    assert client.assigned == []


def test_a_leader_that_is_new_is_waited_for(reader_of: Any) -> None:
    reader, client = reader_of()
    client.leaders_missing = 2
    assert reader.bounds("t", 0) == (3, 9)
    client.leaders_missing = 1_000
    with pytest.raises(KafkaException):
        reader.bounds("t", 0, 0.1)


@pytest.mark.parametrize(
    ("batches", "end"),
    [
        ([[Given(5), Given(6)], [Given(9, END)]], 7),
        ([[Given(6), Given(10)], []], 11),
        ([[Given(9, END)]], 3),
    ],
    ids=["marks at the end", "written to all the time", "nothing but marks"],
)
def test_the_end_of_what_is_committed_is_found(reader_of: Any, batches: list[list[Given]], end: int) -> None:
    """The partition begins at offset 3; its end is told to be 9."""
    reader, client = reader_of(*batches)
    assert reader.record_bounds("t", [0], 1) == {0: (3, end)}
    assert client.assigned == []


def test_marks_are_looked_past_as_far_as_it_takes(reader_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "STEP_BACK", 2)
    reader, client = reader_of([Given(9, END)], [Given(4), Given(9, END)])
    starts: list[int] = []
    monkeypatch.setattr(client, "assign", lambda wanted: starts.extend(at.offset for at in wanted))
    assert reader.record_bounds("t", [0], 1) == {0: (3, 5)}
    assert starts == [7, 3]
