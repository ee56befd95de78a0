"""One table of aggregates: stream type to its decide, evolve and react; and how an event changes a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain import job, queue, tenant
from jobledger.domain.commands import REMEMBERED_PER_STREAM
from jobledger.domain.effects import Effect
from jobledger.domain.events import AnyEvent
from jobledger.domain.job_events import JobSubmitted
from jobledger.domain.job_state import Job
from jobledger.domain.queue_events import QueueCreated
from jobledger.domain.queue_state import Queue, QueueState
from jobledger.domain.tenant import Tenant, TenantCreated
from jobledger.domain.values import Actor, ActorKind, Answer, Lineage, Rejection

State = Job | QueueState | Tenant


class AggregateType(NamedTuple):
    """The functions of one kind of stream."""

    decide: Callable[[str, Any, Any, int], list[Any] | Rejection | Answer]
    evolve: dict[Any, Callable[[Any, Any], None]]
    react: Callable[[Any, Any], list[Effect]]


AGGREGATES: dict[str, AggregateType] = {
    "job": AggregateType(job.decide, job.EVOLVE, job.react),
    "queue": AggregateType(queue.decide, queue.EVOLVE, queue.react),
    "tenant": AggregateType(tenant.decide, tenant.EVOLVE, tenant.react),
}

_EVOLVE: dict[type[Any], Callable[[Any, Any], None]] = {
    event: evolve for aggregate in AGGREGATES.values() for event, evolve in aggregate.evolve.items()
}


def head(state: State) -> Job | Queue | Tenant:
    """The part of a state that holds its id and version."""
    return state.queue if isinstance(state, QueueState) else state


class Recorded(Protocol):
    """An event as it stands in the log: what happened, and the envelope that every event carries."""

    @property
    def originator_id(self) -> str: ...  # noqa: D102
    @property
    def originator_version(self) -> int: ...  # noqa: D102
    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def command_id(self) -> str: ...  # noqa: D102
    @property
    def actor(self) -> Actor: ...  # noqa: D102
    @property
    def correlation_id(self) -> str | None: ...  # noqa: D102
    @property
    def traceparent(self) -> str | None: ...  # noqa: D102
    @property
    def lineage(self) -> Lineage: ...  # noqa: D102
    @property
    def data(self) -> AnyEvent: ...  # noqa: D102


def create(record: Recorded) -> State | None:
    """The state after a first event, or None when the event is not a creating one."""
    stream, event = record.originator_id, record.data
    state: State
    if isinstance(event, JobSubmitted):
        state = job.create(stream, event, record.lineage)
        state.correlation_id, state.traceparent = record.correlation_id, record.traceparent
    elif isinstance(event, QueueCreated):
        state = queue.create(stream, event)
    elif isinstance(event, TenantCreated):
        state = tenant.create(stream, event)
    else:
        return None
    head(state).created_seq = record.seq
    return state


def evolve(state: State, event: AnyEvent) -> State:
    """The state after `event`, changed in place; its version grows by one."""
    _EVOLVE[type(event)](state, event)
    head(state).version += 1
    return state


def mutate(state: State | None, record: Recorded) -> State:
    """The state after a recorded event, in the sense of eventsourcing's `mutate`: checks stream and version first.

    Raises OriginatorIDError or OriginatorVersionError of the eventsourcing library: the log has a hole
    or belongs to another stream.
    """
    if state is None:
        created = create(record)
        if created is None or record.originator_version != 1:
            raise OriginatorVersionError(record.originator_version, 1)
        state = created
    else:
        known = head(state)
        if known.id != record.originator_id:
            raise OriginatorIDError(record.originator_id, known.id)
        if record.originator_version != known.version + 1:
            raise OriginatorVersionError(record.originator_version, known.version + 1)
        evolve(state, record.data)
    if record.actor.kind is ActorKind.USER:
        _remember(head(state), record.command_id)
    return state


def _remember(known: Job | Queue | Tenant, command_id: str) -> None:
    """A stream remembers the last commands of users, so that a repeat of one changes nothing."""
    if command_id not in known.recent:
        known.recent = [*known.recent, command_id][-REMEMBERED_PER_STREAM:]
