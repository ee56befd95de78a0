"""No record on `events` that an owner has not written stops a reader, or is taken for an event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_owner import Decider, credits, submit
from memory_owner import job as new_job
from test_any_record import DO, LARGE, any_bytes, changed, damaged

from jobledger.domain.identity import queue_stream
from jobledger.graphql.catch_up import _take, _Turn
from jobledger.graphql.event_tail import EventTail, Subscriber
from jobledger.projections.event_batch import EventBatch
from jobledger.projections.event_reader import EventReader
from jobledger.projections.writer import Position
from jobledger.schemas.events import EventRecord

QUEUE = queue_stream("default", "default")
Headers = list[tuple[str, bytes]]


class Read:
    """A message as the Kafka client gives it."""

    def __init__(self, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        self._key, self._value, self._headers = key, value, headers
        self.at = 0

    def error(self) -> None:
        return None

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers

    def offset(self) -> int:
        return self.at

    def partition(self) -> int:
        return 0

    def topic(self) -> str:
        return "events"


def history() -> list[Any]:
    one = Decider()
    one.feed(credits(QUEUE, 3), *(submit(new_job(f"e{number}")) for number in range(4)))
    one.settle()
    return [event for plan in one.batches for event in plan.events]


EVENTS = history()
VALUES = [event.value for event in EVENTS]
#: Events of another partition, as somebody may copy them: nobody has those that are not written yet.
COPIED = [value.replace(b'{"id":"0-', b'{"id":"7-') for value in VALUES]


def strangers() -> st.SearchStrategy[Read]:
    keys = st.one_of(st.none(), st.binary(max_size=9), st.sampled_from([event.key for event in EVENTS] + [b"a:b"]))
    values = st.one_of(
        st.none(),
        any_bytes(),
        st.sampled_from(COPIED),
        st.sampled_from([json.loads(value) for value in COPIED]).flatmap(changed),
        damaged(COPIED),
        st.integers(0, 40).map(lambda seq: COPIED[0].replace(b'"seq":1,', b'"seq":%d,' % seq)),
        st.integers(0, 40).map(lambda seq: b'{"seq":%d,"stream":"job:default:x","version":1}' % seq),
    )
    headers = st.sampled_from([None, [], [("ce_type", b"com.example.made"), ("ce_sequence", b"x")], [("a", b"")]])
    return st.builds(Read, keys, values, headers)


def mixed() -> st.SearchStrategy[list[Read]]:
    """The events in order, with records of strangers at some places between them."""

    def mix(places: list[tuple[int, Read]]) -> list[Read]:
        messages = [Read(event.key, event.value, event.headers) for event in EVENTS]
        for place, stranger in places:
            messages.insert(place % (len(messages) + 1), stranger)
        for offset, message in enumerate(messages):
            message.at = offset
        return messages

    return st.lists(st.tuples(st.integers(0, 100), strangers()), min_size=1, max_size=4).map(mix)


@pytest.mark.scenario("a record is broken", emits=("record_quarantined",))
@DO
@given(mixed(), st.integers(1, 5))
def test_the_projector_takes_the_events_and_nothing_else(messages: list[Read], size: int) -> None:
    position = Position(0, 0, 0)
    for start in range(0, len(messages), size):
        batch = EventBatch(EventReader(), {0: position})
        batch.add(messages[start : start + size])  # type: ignore[arg-type]
        position = batch.reached.get(0, position)
    assert position.seq == len(EVENTS)
    assert position.next_offset == len(messages) or messages[-1].headers() != EVENTS[-1].headers


@DO
@given(mixed(), st.integers(1, 5))
async def test_the_tail_passes_on_the_events_and_nothing_else(messages: list[Read], size: int) -> None:
    queues: list[EventRecord] = []
    tail = EventTail({}, "events", 1, queues.append)
    subscriber = Subscriber(lambda record: True, frozenset({0}), None)
    tail.join(subscriber, {0: 0})
    for start in range(0, len(messages), size):
        await tail.deliver(messages[start : start + size])  # type: ignore[arg-type]
    assert tail.vector == {0: len(EVENTS)}
    jobs = [event.value for event in EVENTS if event.key.startswith(b"job:")]
    assert subscriber.ended is None and len(subscriber.waiting) == len(jobs)
    assert [kept.value for kept in tail.kept_after(0, 0)] == VALUES
    assert len(queues) == 1


@DO
@given(mixed())
def test_a_subscriber_that_catches_up_gets_the_events_and_nothing_else(messages: list[Read]) -> None:
    turn = _Turn({0: 0})
    for message in messages:
        _take(message, turn)  # type: ignore[arg-type]
    assert [(event[1], event[3]) for event in turn.events] == list(enumerate(VALUES, 1))
    assert turn.places == {0: len(messages)}


def test_sizes_go_to_the_brokers_bound() -> None:
    assert max(LARGE) > 2_000_000
