"""A batch and all that it holds goes when it is over: nothing is left for the garbage collector to find."""

from __future__ import annotations

import gc
import time

from log_cell import USER, submit
from memory_owner import Decider
from uuid_utils.compat import uuid7

from jobledger.domain.identity import job_stream
from jobledger.schemas.commands import Command

BATCHES = 50
PER_BATCH = 20


def _turn(owner: Decider) -> None:
    ids = [str(uuid7()) for _ in range(PER_BATCH)]
    owner.feed(*(Command(id=i, stream=job_stream("default", i), actor=USER, body=submit(), reply=True) for i in ids))
    owner.turn(time.time_ns() // 1_000_000)
    owner.records.clear()
    owner.outcomes.clear()
    owner.batches.clear()


def test_batches_leave_no_cycles_of_references() -> None:
    """With a cycle in each batch its events, state and outcomes wait for the collector, which stops the loop meanwhile.

    That cost a fifth of the throughput.
    """
    owner = Decider()
    _turn(owner)
    gc.collect()
    gc.disable()
    try:
        for _ in range(BATCHES):
            _turn(owner)
        assert gc.collect() < BATCHES
    finally:
        gc.enable()
    assert owner.machine.checkpoint.seq >= 2 * BATCHES * PER_BATCH
