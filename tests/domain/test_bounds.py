"""The bounds of the domain as numbers: what is just within them is taken, the next one is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from jobledger.domain.effects import FollowUp, ToWorker
from jobledger.domain.identity import is_name, partition_of
from jobledger.domain.job.commands import CancelJob
from jobledger.domain.queue.decide import MAX_LOST_PER_DECISION
from jobledger.domain.queue.settings import DEFAULT_MAX_WAITING_BYTES
from jobledger.domain.values import Id, Millis, Passed, Priority, StreamId
from jobledger.domain.worker_messages import CancelTask

YEAR_9999_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (Priority, (1, 5), (0, 6)),
        (Millis, (0, YEAR_9999_MS), (-1, YEAR_9999_MS + 1)),
        (Id, ("", "x" * 128), ("x" * 129,)),
        (StreamId, ("", "x" * 256), ("x" * 257,)),
        (Passed, ("", "x" * 512), ("x" * 513,)),
    ],
    ids=("Priority", "Millis", "Id", "StreamId", "Passed"),
)
def test_what_a_command_may_hold(kind: Any, taken: tuple[Any, ...], refused: tuple[Any, ...]) -> None:
    """A record with a value beyond its bound cannot be read, so no decision ever sees one."""
    for value in taken:
        assert msgspec.convert(value, kind) == value
    for value in refused:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)


def test_how_much_there_may_be_of_what() -> None:
    """What waits in a queue that nobody made, what one decision gives up, what the process remembers of names."""
    assert DEFAULT_MAX_WAITING_BYTES == 1_073_741_824
    assert MAX_LOST_PER_DECISION == 100
    assert partition_of.cache_info().maxsize == 8_192


def test_how_long_a_name_may_be() -> None:
    """1 to 100 characters; what parts keys and stream ids is in none."""
    assert is_name("a")
    assert is_name("a" * 100)
    assert not any(map(is_name, ("", "a" * 101, ".a", "a|b", "a:b", "ä", "a\n")))


def test_effects_are_values() -> None:
    """What follows from an event is changed by nobody on its way to the log, and has nothing beside its fields."""
    stop = CancelTask(worker="w", incarnation="w.1", job="job:default:1", task="main", assignment=1)
    for effect, name in ((FollowUp("job:default:1", CancelJob()), "stream"), (ToWorker(stop), "message")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(effect, name, None)
        assert not hasattr(effect, "__dict__")
