"""A machine that was suspended: leases ran on meanwhile, and whoever wakes knows it at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.processors.clock import SystemClock
from jobledger.workers.lease import Lease
from jobledger.workers.liveness import Liveness


def test_leases_are_counted_by_the_clock_that_goes_on_in_a_suspend() -> None:
    """The owners' and the workers': time.monotonic() stands still while the machine sleeps."""
    assert abs(boot_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
    assert abs(SystemClock().monotonic() - boot_seconds()) < 1
    lease = Lease(10)
    lease.confirm(boot_seconds())
    assert 9 < lease.remaining <= 9.5


async def test_a_worker_that_wakes_learns_within_a_second_that_its_lease_is_over() -> None:
    """Its sleep until the end of the lease stood still too, so it does not wait for the rest of that."""
    now = 1_000.0
    lease = Lease(60, monotonic=lambda: now)
    lease.confirm(now)
    liveness = Liveness(cast("Any", None), "heartbeats", "w", lease, cast("Any", None), 2.0)
    lost = asyncio.Event()

    async def on_lost() -> None:
        lost.set()
        await asyncio.Event().wait()

    watching = asyncio.create_task(liveness.watch(on_lost))
    await asyncio.sleep(0.05)
    assert lease.valid and not lost.is_set()
    now += 3_600
    assert not lease.valid
    await asyncio.wait_for(lost.wait(), 10)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
