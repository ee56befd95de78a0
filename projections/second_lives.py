"""Whether an event goes on with its job's row, which a stream that began twice in an older log must not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jobledger.domain.job.state import FINAL
from jobledger.schemas.events import EventRecord

#: Statuses of rows that take no event any more.
FINAL_STATUSES = tuple(sorted(status.value for status in FINAL))


class Standing(NamedTuple):
    """Where a job's row stands: its version, and whether nothing can follow."""

    version: int
    final: bool


def standing(version: int, status: str) -> Standing:
    """Of a row."""
    return Standing(version, status in FINAL_STATUSES)


class SecondLives:
    """Follows jobs through a batch. `find` gives where a job's row stood before the batch, as far as it is known."""

    def __init__(self, find: Callable[[str], Standing | None] = lambda stream: None) -> None:
        self._find = find
        self._ended: dict[str, int] = {}

    def fault(self, record: EventRecord) -> str | None:
        """Why an event can't be folded, as a sentence; None: it goes on where its job stands."""
        stream = record.originator_id
        if not stream.startswith("job:"):
            return None
        ended = self._ended.get(stream)
        if ended is None:
            row = self._find(stream)
            if row is not None and (row.final or record.originator_version <= row.version):
                ended = row.version
                self._ended[stream] = ended
        if ended is not None:
            return f"The job's row stands at version {ended} and takes nothing more: its stream began a second time."
        if record.status in FINAL_STATUSES:
            self._ended[stream] = record.originator_version
        return None


def ends_job(record: EventRecord) -> bool:
    """Whether no event of this job comes after this one."""
    return record.status in FINAL_STATUSES
