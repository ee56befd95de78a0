"""One table of aggregates: stream type to its decide, evolve and react; and how an event changes a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain import job, queue, tenant
from jobledger.domain.effects import Effect
from jobledger.domain.events import AnyEvent
from jobledger.domain.job_events import JobSubmitted
from jobledger.domain.queue_events import QueueCreated
from jobledger.domain.tenant import TenantCreated
from jobledger.domain.values import Answer, Lineage, Rejection

State = job.Job | queue.QueueState | tenant.Tenant


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


def head(state: State) -> job.Job | queue.Queue | tenant.Tenant:
    """The part of a state that holds its id and version."""
    return state.queue if isinstance(state, queue.QueueState) else state


def create(stream: str, event: AnyEvent, lineage: Lineage) -> State | None:
    """The state after a first event, or None when the event is not a creating one."""
    if isinstance(event, JobSubmitted):
        return job.create(stream, event, lineage)
    if isinstance(event, QueueCreated):
        return queue.create(stream, event)
    if isinstance(event, TenantCreated):
        return tenant.create(stream, event)
    return None


def evolve(state: State, event: AnyEvent) -> State:
    """The state after `event`, changed in place; its version grows by one."""
    _EVOLVE[type(event)](state, event)
    head(state).version += 1
    return state


def mutate(state: State | None, stream: str, version: int, event: AnyEvent, lineage: Lineage) -> State:
    """`evolve` for events read from a log: checks stream and version first.

    Raises OriginatorIDError or OriginatorVersionError of the eventsourcing library: the log has a hole
    or belongs to another stream.
    """
    if state is None:
        created = create(stream, event, lineage)
        if created is None or version != 1:
            raise OriginatorVersionError(version, 1)
        return created
    known = head(state)
    if known.id != stream:
        raise OriginatorIDError(stream, known.id)
    if version != known.version + 1:
        raise OriginatorVersionError(version, known.version + 1)
    return evolve(state, event)
