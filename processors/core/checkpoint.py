"""Where a partition's owner stands: written with every transaction."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from jobledger.domain.levels import OLDEST
from jobledger.schemas.commands import Command

#: Destination of an outbox entry: "c3" commands partition 3, "t5" tasks partition 5, "q0" quarantine.
Destination = str


class Pending(msgspec.Struct, frozen=True):
    """A command that a batch had no room for; it runs first in the next one."""

    command: Command
    depth: int


class Checkpoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Progress of one partition.

    `offset` and `index` name the next command (record offset on `commands`, place in the record) and `seq`
    the last event. `checksum` is that of the record before `offset`, the last one of which nothing is left to decide.
    `received` holds the last outbox number taken per source partition, `sent` the last one given per destination.
    `now_ms` never runs backwards.

    `pending` is what the last batch had no room for, as far as it fits here. The rest stands in records `p|number`:
    `part_last` is the last number given, `part_taken` how many commands of the first record left have run.
    `ahead` is the highest outbox number seen from a source whose next one has not come yet: there is a gap.
    `aside` names the timers and leases that failed when they were decided; they do not come back.

    `level` is the format level in which the partition is written, and `reads` the newest one that its last owner reads.
    Level 2 wrote the first checkpoint that says so: an owner of 0.1 refuses it, and so leaves what it cannot read.
    """

    cell: str
    partitions: int
    offset: int = 0
    index: int = 0
    checksum: int | None = None
    seq: int = 0
    now_ms: int = 0
    received: dict[int, int] = {}
    sent: dict[Destination, int] = {}
    pending: list[Pending] = []
    part_last: int = 0
    part_taken: int = 0
    ahead: dict[int, int] = {}
    aside: list[str] = []
    #: The broker's ids of the cell's topics, by role of the topic.
    topics: dict[str, str] = {}
    level: int = OLDEST
    reads: int = OLDEST

    class_version = 2
    class_levels: ClassVar[dict[int, int]] = {2: 2}

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Only level 2 needs to say what it is."""
