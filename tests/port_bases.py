"""Where a `jobledger dev` of a test may listen: no two workers of a parallel run choose from the same ports."""

from __future__ import annotations

import os
import random

from jobledger.dev.options import DevOptions, layout
from jobledger.dev.ports import is_free

FIRST, LAST, STEP = 20_000, 32_000, 100
WORKERS = 12


def free_port_base() -> int:
    """A base whose ports are all free, among those of this worker: it starts its tests one after the other."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    share = (LAST - FIRST) // WORKERS
    begin = FIRST + worker * share
    while True:
        base = random.randrange(begin, begin + share, STEP)
        if all(is_free(port) for port in layout(DevOptions(port_base=base, workers=2)).named_ports()):
            return base
