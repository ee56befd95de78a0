"""How a recorded event changes a state: only the next one of its own stream does, and the envelope leaves its mark."""

from __future__ import annotations

from typing import Any

import pytest
from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain.aggregates import State, head, mutate
from jobledger.domain.job import events as je
from jobledger.domain.job.state import Job
from jobledger.domain.queue import events as qe
from jobledger.domain.tenant.events import TenantCreated, TenantUpdated
from jobledger.domain.tenant.state import TenantStatus
from jobledger.domain.values import SYSTEM, Actor, ActorKind, Lineage, Opaque, RetryPolicy
from jobledger.schemas.events import EventRecord

TENANT = "tenant:default:default"
CREATED = TenantCreated(created_at_ms=5)
CHANGED = TenantUpdated(updated_at_ms=6, status=TenantStatus.ACTIVE, max_live_jobs=1)
FIRST: dict[str, Any] = {
    TENANT: CREATED,
    "queue:default:q": qe.QueueCreated(created_at_ms=5, max_waiting_bytes=1),
    "job:default:1": je.JobSubmitted(
        handler="h",
        queue="q",
        priority=3,
        payload=Opaque("{}"),
        submitted_at_ms=5,
        due_at_ms=5,
        retry=RetryPolicy(),
    ),
}


def record(
    version: int, event: Any, stream: str = TENANT, command: str = "c", by: ActorKind = ActorKind.SYSTEM
) -> EventRecord:
    return EventRecord(
        id="0",
        originator_id=stream,
        originator_version=version,
        seq=70 + version,
        tenant="default",
        at_ms=5,
        command_id=command,
        actor=SYSTEM if by is ActorKind.SYSTEM else Actor(by, "somebody"),
        data=event,
        lineage=Lineage(root="r"),
        correlation_id="order-7",
        traceparent="00-1-2-01",
    )


def fold(*records: EventRecord) -> State:
    state: State | None = None
    for one in records:
        state = mutate(state, one)
    assert state is not None
    return state


@pytest.mark.parametrize("stream", FIRST)
def test_the_first_event_of_a_stream_makes_its_state(stream: str) -> None:
    """At version 1 and with the sequence number of its creation; a job knows besides what its submission came from."""
    state = fold(record(1, FIRST[stream], stream))
    known = head(state)
    assert (known.id, known.version, known.created_seq, known.recent) == (stream, 1, 71, [])
    if isinstance(state, Job):
        assert (state.correlation_id, state.traceparent, state.lineage.root) == ("order-7", "00-1-2-01", "r")


@pytest.mark.parametrize(
    ("given", "event", "version", "expected"),
    [
        ((), CREATED, 2, 1),
        ((), CREATED, 0, 1),
        ((), CHANGED, 1, 1),
        ((record(1, CREATED),), CHANGED, 1, 2),
        ((record(1, CREATED),), CHANGED, 3, 2),
        ((record(1, CREATED), record(2, CHANGED)), CHANGED, 2, 3),
    ],
    ids=("begins late", "begins early", "begins with a change", "again", "with a hole", "again, later"),
)
def test_a_hole_in_a_stream_stops_its_reader(given: Any, event: Any, version: int, expected: int) -> None:
    """A record that is not the next one is named, and the one that should have come."""
    state = fold(*given) if given else None
    with pytest.raises(OriginatorVersionError) as told:
        mutate(state, record(version, event))
    assert told.value.args == (version, expected)


def test_an_event_of_another_stream_stops_its_reader() -> None:
    """The next version of one stream is nothing to another."""
    with pytest.raises(OriginatorIDError) as told:
        mutate(fold(record(1, CREATED)), record(2, CHANGED, "tenant:other:other"))
    assert told.value.args == ("tenant:other:other", TENANT)


@pytest.mark.parametrize("by", [ActorKind.WORKER, ActorKind.SYSTEM])
def test_a_stream_remembers_the_commands_of_people_alone(by: ActorKind) -> None:
    """In the order they came, each once however many events it gave; workers and the system repeat nothing."""
    user = ActorKind.USER
    first, second = record(1, CREATED, command="a", by=user), record(2, CHANGED, command="a", by=user)
    assert head(fold(first)).recent == ["a"]
    assert head(fold(first, second)).recent == ["a"]
    assert head(fold(first, second, record(3, CHANGED, command="b", by=user))).recent == ["a", "b"]
    assert head(fold(first, second, record(3, CHANGED, command="b", by=by))).recent == ["a"]


def test_a_stream_remembers_the_last_sixteen_commands() -> None:
    """The oldest one goes when another comes, so a state stays small however often somebody changes it."""
    commands = [f"c{n}" for n in range(18)]
    records = [
        record(version, CREATED if version == 1 else CHANGED, command=command, by=ActorKind.USER)
        for version, command in enumerate(commands, 1)
    ]
    assert head(fold(*records[:16])).recent == commands[:16]
    assert head(fold(*records)).recent == commands[2:]
