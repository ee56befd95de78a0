"""One hash for everything that a log folds to, to compare two folds of it across releases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from jobledger.domain.aggregates import State
from jobledger.domain.queue.state import QueueState
from jobledger.simulator.checks import PartitionTrace

_encode = msgspec.json.Encoder(order="sorted").encode


def _plain(state: State) -> Any:
    if isinstance(state, QueueState):
        return {"queue": state.queue, "tasks": state.lanes.tasks, "workers": state.workers}
    return state


def fold_hash(partitions: Iterable[PartitionTrace]) -> str:
    """sha256 in hex over every stream's folded state, in the order of partitions and stream ids.

    Fields that hold their default do not count: a field that a later release adds leaves the hash as it is.
    """
    digest = hashlib.sha256()
    for number, trace in enumerate(partitions):
        digest.update(f"{number}/{trace.seq}\n".encode())
        for stream in sorted(trace.states):
            digest.update(f"{stream}\t".encode() + _encode(_plain(trace.states[stream])) + b"\n")
    return digest.hexdigest()
