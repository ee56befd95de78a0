"""What a page of rows is asked by, and what it is. Times are ms since the epoch."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

import msgspec

Row = TypeVar("Row")


class JobCursor(NamedTuple):
    """Where a page of jobs ends: the time it is ordered by, then the id."""

    at_ms: int
    id: str


class JobOrder(StrEnum):
    """By submission."""

    NEWEST_FIRST = "NEWEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs: all that is given has to hold; of a tuple, one. Ranges: from inclusive, before exclusive."""

    statuses: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    priorities: tuple[int, ...] = ()
    ids: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    submitted_from_ms: int | None = None
    submitted_before_ms: int | None = None
    due_from_ms: int | None = None
    due_before_ms: int | None = None
    ended_from_ms: int | None = None
    ended_before_ms: int | None = None
    key_digest: str | None = None
    worker: str | None = None
    parent: str | None = None
    root: str | None = None
    retry_of: str | None = None
    schedule: str | None = None
    workflow: str | None = None


class Page(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """Some rows in order, and whether more follow."""

    items: list[Row]
    has_next: bool


class Overdue(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are past their due time and not ready yet."""

    count: int
    oldest_due_at_ms: int | None


class PoolNow(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of workers. `registered`: those that live and don't drain, and those that were lost in the last hour and
    have not come back; `healthy`: those of them whose lease is valid, with their `slots`, `busy` ones among them."""

    pool: str
    registered: int
    healthy: int
    slots: int
    busy: int


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of clients that the database server has, and how many an ordinary user's may be."""

    used: int
    limit: int
