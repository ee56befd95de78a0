"""A command belongs on the partition of its stream."""

from __future__ import annotations

from collections import deque

from jobledger.domain.identity import partition_of
from jobledger.domain.job.commands import SubmitJob
from jobledger.domain.values import Actor, ActorKind, Code, Opaque
from jobledger.processors.core.machine import Incoming
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.recovery import rebuild
from jobledger.processors.core.retained import Retained
from jobledger.schemas.commands import Command, ReadRecord


def test_a_command_on_the_wrong_partition_is_set_aside_and_makes_no_stream() -> None:
    """Its stream would have two owners; the sender gets a rejection that names the right partition."""
    stream = "job:default:astray"
    right = partition_of(stream, 4)
    machine = rebuild((right + 1) % 4, "c", 4, {}, Limits(), Retained())
    body = SubmitJob(handler="h", queue="default", payload=Opaque("{}"))
    command = Command(id="1", stream=stream, actor=Actor(ActorKind.USER, "u"), body=body, reply=True)
    waiting = deque([(0, ReadRecord(commands=[command]))])
    plan = machine.decide(1, Incoming(waiting, deque()), single=False, over_time=lambda: False)
    assert not plan.events
    assert machine.streams["job"] == {}
    assert [entry.destination for entry in plan.outbox] == ["q0"]
    (outcome,) = plan.outcomes
    assert outcome.rejection is not None
    assert outcome.rejection.code is Code.UNDECIDABLE
    assert f"partition {right}" in outcome.rejection.message
