"""What is asked besides submitting, checked before it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, get_args

from jobledger.client.operations import enums, inputs
from jobledger.client.spec import checked_name, checked_tags, is_text, wrong
from jobledger.domain.job.state import JobStatus
from jobledger.domain.service_levels import WINDOW_DAYS

MAX_PAGE = 100
MAX_QUEUE_BYTES = 1 << 50


def wanted_jobs(status: object, queue: object, handler: object, tags: object) -> inputs.JobFilter:
    """The API's JobFilter; raises InvalidInput."""
    wanted: inputs.JobFilter = {}
    if statuses := _statuses(status):
        wanted["status"] = statuses
    if queue is not None:
        wanted["queue"] = checked_name("queue", queue)
    if handler is not None:
        wanted["handler"] = checked_name("handler", handler)
    if tags is not None and (pairs := checked_tags(tags)):
        wanted["tags"] = pairs
    return wanted


def _statuses(status: object) -> list[enums.JobStatus]:
    given = [status] if isinstance(status, str) else status
    if not isinstance(given, Iterable):
        raise wrong("status", status, "one or more of the names of JobStatus")
    known = get_args(enums.JobStatus)
    found: list[enums.JobStatus] = []
    for one in given:
        if not isinstance(one, str) or one not in known:
            raise wrong("status", one, f"one of {', '.join(JobStatus)}")
        found.append(known[known.index(one)])
    return found


def checked_first(first: object) -> int:
    """How many a page is to have; raises InvalidInput."""
    if isinstance(first, int) and not isinstance(first, bool) and 1 <= first <= MAX_PAGE:
        return first
    raise wrong("first", first, f"1 to {MAX_PAGE}")


def checked_days(days: object) -> int:
    """Over how many days service levels are asked for; raises InvalidInput."""
    if isinstance(days, int) and not isinstance(days, bool) and 1 <= days <= WINDOW_DAYS:
        return days
    raise wrong("window_days", days, f"1 to {WINDOW_DAYS}")


def checked_text(name: str, text: object) -> str | None:
    """A text or nothing; raises InvalidInput."""
    return None if text is None else required_text(name, text)


def required_text(name: str, text: object) -> str:
    """A text; raises InvalidInput."""
    if is_text(text):
        return text
    raise wrong(name, text, "text")


class QueueOptions(TypedDict, total=False):
    """The settings of a queue, as `create_queue` and `update_queue` take them; None leaves one as it is."""

    max_waiting_bytes: int | None
    description: str | None


def change_of(name: object, *, max_waiting_bytes: object = None, description: object = None) -> inputs.CreateQueueInput:
    """What a queue is given: its name, and what is not None of the rest; raises InvalidInput."""
    given: inputs.CreateQueueInput = {"name": checked_name("name", name)}
    if max_waiting_bytes is not None:
        given["maxWaitingBytes"] = _queue_bytes(max_waiting_bytes)
    if description is not None:
        given["description"] = required_text("description", description)
    return given


def _queue_bytes(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_QUEUE_BYTES:
        return value
    raise wrong("max_waiting_bytes", value, f"a number of bytes, 1 to {MAX_QUEUE_BYTES:,}")
