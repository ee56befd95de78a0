"""The register of aggregates: every kind of stream there is; and how an event changes a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsourcing.domain import OriginatorIDError, OriginatorVersionError

from jobledger.domain.cell.kind import CELL
from jobledger.domain.commands import REMEMBERED_PER_STREAM
from jobledger.domain.events import AnyEvent
from jobledger.domain.job.kind import JOB
from jobledger.domain.kind import Head, Kind, Recorded, Streamed
from jobledger.domain.queue.kind import QUEUE
from jobledger.domain.tenant.kind import TENANT
from jobledger.domain.values import ActorKind

State = Streamed

#: By the first part of a stream's id.
AGGREGATES: dict[str, Kind] = {kind.name: kind for kind in (JOB, QUEUE, TENANT, CELL)}

_CREATE: dict[type[Any], Callable[[Recorded], Any]] = {kind.created_by: kind.create for kind in AGGREGATES.values()}
_EVOLVE: dict[type[Any], Callable[[Any, Any], None]] = {
    event: evolve for kind in AGGREGATES.values() for event, evolve in kind.evolve.items()
}


def kind_of(stream: str) -> Kind:
    """The kind of a stream; raises KeyError for an id that begins with none."""
    return AGGREGATES[stream.partition(":")[0]]


def head(state: State) -> Head:
    """The part of a state that holds its id and version."""
    found: Head = state.head
    return found


def create(record: Recorded) -> State | None:
    """The state after a first event, or None when the event is not a creating one."""
    make = _CREATE.get(type(record.data))
    if make is None:
        return None
    state: State = make(record)
    state.head.created_seq = record.seq
    return state


def evolve(state: State, event: AnyEvent) -> State:
    """The state after `event`, changed in place; its version grows by one."""
    _EVOLVE[type(event)](state, event)
    state.head.version += 1
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


def _remember(known: Head, command_id: str) -> None:
    """A stream remembers the last commands of users, so that a repeat of one changes nothing."""
    if command_id not in known.recent:
        known.recent = [*known.recent, command_id][-REMEMBERED_PER_STREAM:]
