"""What is asked besides submitting, checked before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from jobledger.client.spec import checked_name, checked_tags, is_text, wrong
from jobledger.domain.job.state import JobStatus

MAX_PAGE = 100
MAX_QUEUE_BYTES = 1 << 50


def wanted_jobs(status: object, queue: object, handler: object, tags: object) -> dict[str, Any]:
    """The API's JobFilter; raises InvalidInput."""
    wanted: dict[str, Any] = {}
    if statuses := _statuses(status):
        wanted["status"] = statuses
    if queue is not None:
        wanted["queue"] = checked_name("queue", queue)
    if handler is not None:
        wanted["handler"] = checked_name("handler", handler)
    if tags is not None and (pairs := checked_tags(tags)):
        wanted["tags"] = pairs
    return wanted


def _statuses(status: object) -> list[str]:
    given = [status] if isinstance(status, str) else status
    if not isinstance(given, Iterable):
        raise wrong("status", status, "one or more of the names of JobStatus")
    known = [one.value for one in JobStatus]
    for one in given:
        if not isinstance(one, str) or one not in known:
            raise wrong("status", one, f"one of {', '.join(known)}")
    return [str(one) for one in given]


def checked_first(first: object) -> int:
    """How many a page is to have; raises InvalidInput."""
    if isinstance(first, int) and not isinstance(first, bool) and 1 <= first <= MAX_PAGE:
        return first
    raise wrong("first", first, f"1 to {MAX_PAGE}")


def checked_text(name: str, text: object) -> str | None:
    """A text or nothing; raises InvalidInput."""
    if text is None or is_text(text):
        return text
    raise wrong(name, text, "text")


class QueueOptions(TypedDict, total=False):
    """The settings of a queue, as `create_queue` and `update_queue` take them; None leaves one as it is."""

    max_waiting_bytes: int | None
    description: str | None


def change_of(name: object, *, max_waiting_bytes: object = None, description: object = None) -> Mapping[str, Any]:
    """What a queue is given: its name, and what is not None of the rest; raises InvalidInput."""
    given: dict[str, Any] = {"name": checked_name("name", name)}
    if max_waiting_bytes is not None:
        whole = isinstance(max_waiting_bytes, int) and not isinstance(max_waiting_bytes, bool)
        if not whole or not 1 <= max_waiting_bytes <= MAX_QUEUE_BYTES:  # type: ignore[operator]
            raise wrong("max_waiting_bytes", max_waiting_bytes, f"a number of bytes, 1 to {MAX_QUEUE_BYTES:,}")
        given["maxWaitingBytes"] = max_waiting_bytes
    if description is not None:
        given["description"] = checked_text("description", description)
    return given
