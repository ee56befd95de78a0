"""Whatever kind of event or command there is, every part of the system has decided what to do with it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from jobledger.domain import aggregates
from jobledger.domain.aggregates import AGGREGATES
from jobledger.domain.cell import commands as cc
from jobledger.domain.cell.events import CellEvent, LevelEnabled
from jobledger.domain.commands import AnyCommand
from jobledger.domain.events import AnyEvent
from jobledger.domain.job import commands as jc
from jobledger.domain.job.events import JobEvent, JobSubmitted
from jobledger.domain.queue import commands as qc
from jobledger.domain.queue.events import QueueCreated, QueueEvent
from jobledger.domain.tenant import commands as tc
from jobledger.domain.tenant.events import TenantCreated, TenantEvent
from jobledger.domain.values import Value
from jobledger.projections.fold import APPLY
from jobledger.schemas.events import EVENT_CLASSES, TYPE_PREFIX, type_name
from jobledger.schemas.export import DEFAULT_DIRECTORY

EVENTS: tuple[type[Any], ...] = get_args(AnyEvent)
CREATED_BY = (JobSubmitted, QueueCreated, TenantCreated, LevelEnabled)


def _leaves(cls: type[Any]) -> set[type[Any]]:
    below = cls.__subclasses__()
    own = {cls} if cls.__struct_config__.tag is not None and not below else set()
    return own.union(*(_leaves(one) for one in below))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_each_event_is_handled_once_everywhere(event: type[Any]) -> None:
    """One way into a state (create or evolve), a public name, a schema file, a place in the read models."""
    evolving = [kind for kind, aggregate in AGGREGATES.items() if event in aggregate.evolve]
    assert len(evolving) + (event in CREATED_BY) == 1
    assert type_name(event).startswith(TYPE_PREFIX)
    assert type_name(event).rpartition(".v")[2].isdigit()
    assert (DEFAULT_DIRECTORY / "events" / f"{type_name(event)}.json").exists()
    assert event in APPLY


def test_no_event_is_left_out_or_named_twice() -> None:
    """Every class of event below the bases is in the union, under a name of its own."""
    assert _leaves(JobEvent) | _leaves(QueueEvent) | _leaves(TenantEvent) | _leaves(CellEvent) == set(EVENTS)
    assert len({type_name(event) for event in EVENTS}) == len(EVENTS) == len(EVENT_CLASSES)
    assert set(APPLY) == set(EVENTS)
    assert set(aggregates._EVOLVE) == set(EVENTS) - set(CREATED_BY)


def test_no_command_is_left_out() -> None:
    """Every class of command is in the union; the parts of the unions agree; names are unique."""
    commands = set(get_args(AnyCommand))
    bases = (jc.JobCommand, qc.QueueCommand, tc.TenantCommand, cc.CellCommand)
    assert set().union(*map(_leaves, bases)) == commands
    parts = (
        *get_args(jc.AnyJobCommand),
        *get_args(qc.AnyQueueCommand),
        *get_args(tc.AnyTenantCommand),
        cc.AnyCellCommand,
    )
    assert set(parts) == commands
    assert len({command.__struct_config__.tag for command in commands}) == len(commands)
    assert {c.__name__ for c in commands if c.creating} == {"SubmitJob", "CreateQueue", "CreateTenant"}
    people = {"CancelJob", "RedriveJob", "DiscardJob", "CreateQueue", "UpdateQueue", "CreateTenant", "UpdateTenant"}
    assert {c.__name__ for c in commands if c.remembered} == people


def test_every_record_is_immutable() -> None:
    """Events and commands are values: nobody changes one that another part holds."""
    for cls in (*EVENTS, *get_args(AnyCommand)):
        assert issubclass(cls, Value)
        assert cls.__struct_config__.frozen


def test_the_register_names_everything_once() -> None:
    """Kinds by their name; no two classes of records in `state` share a name, and no two kinds of keys a letter."""
    assert all(name == kind.name for name, kind in AGGREGATES.items())
    parts = [part for kind in AGGREGATES.values() for part in kind.parts]
    names = [kind.name for kind in AGGREGATES.values()] + [part.name for part in parts]
    assert len(set(names)) == len(names) and not set(names) & {"stub", "key", "checkpoint", "pending"}
    assert all(part.packed for kind in AGGREGATES.values() if kind.packed for part in kind.parts)
    assert not any(kind.held for kind in AGGREGATES.values() if kind.packed), "leases are asked of states in memory"
    letters = [part.letter for part in parts]
    assert len(set(letters)) == len(letters) and not set(letters) & set("sopkenc")
    assert [kind.created_by for kind in AGGREGATES.values()] == list(CREATED_BY)
