"""A seeded world in memory: the scheduler's own owners and relay under virtual time and faults.

No Kafka, no threads, no real clock. Users' test fixtures and what-if replay build on `World`; the invariants
that hold in it are in `checks`, the faults that a run can draw from in `chaos`.
"""

from jobledger.simulator.checks import ViolationError
from jobledger.simulator.world import NewJob, World, WorldOptions

__all__ = ["NewJob", "ViolationError", "World", "WorldOptions"]
