"""Records of a worker's inbox."""

from __future__ import annotations

import msgspec
import pytest

from jobledger.domain.worker_messages import CancelTask
from jobledger.schemas.worker import encode_message, join_tasks, read_tasks

GOOD = CancelTask(worker="w", incarnation="i", job="job:default:1", task="main", assignment=1)


def test_a_broken_message_does_not_take_the_others_of_its_record_along() -> None:
    """Each of the good ones is read, in order; the broken one is told."""
    data = encode_message(GOOD)
    messages, faults = read_tasks(join_tasks([data, b'{"type":"worker.unknown.v9"}', data], 0, 1))
    assert messages == [GOOD, GOOD]
    (fault,) = faults
    assert "worker.unknown.v9" in fault


def test_a_record_that_is_no_record_raises() -> None:
    """There is nothing to take from it."""
    with pytest.raises(msgspec.DecodeError):
        read_tasks(b"[]")
