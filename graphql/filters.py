"""Filters of lists of jobs, checked."""

from __future__ import annotations

from typing import Any

from jobledger.graphql.types.errors import QueryError
from jobledger.graphql.types.inputs import JobFilter
from jobledger.graphql.validation import Refused, check_tags, check_text, check_time, check_uuid, digest, given, refuse
from jobledger.projections import pages
from jobledger.schemas.limits import MAX_KEY_LENGTH, MAX_NAME_LENGTH

MAX_IDS = 1_000
_TIMES = {
    "submitted_from": "submittedFrom",
    "submitted_before": "submittedBefore",
    "due_from": "dueFrom",
    "due_before": "dueBefore",
    "ended_from": "endedFrom",
    "ended_before": "endedBefore",
}


def job_filter(wanted: JobFilter | None) -> pages.JobFilter:
    """The read model's filter; raises QueryError for one that can't hold."""
    if not given(wanted) or wanted is None:
        return pages.JobFilter()
    try:
        return pages.JobFilter(**_checked(wanted))
    except Refused as refused:
        refused.error.path = ["filter", *refused.error.path]
        raise QueryError(refused.error) from None


def _checked(wanted: JobFilter) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wanted.status:
        found["statuses"] = tuple(str(status) for status in wanted.status)
    for field, name in (("handler", "handlers"), ("queue", "queues")):
        if given(value := getattr(wanted, field)):
            found[name] = (check_text(field, value, MAX_NAME_LENGTH),)
    if given(wanted.priority):
        found["priorities"] = (wanted.priority,)
    if wanted.tags:
        found["tags"] = check_tags(wanted.tags)
    if given(wanted.ids) and wanted.ids is not None:
        if not 1 <= len(wanted.ids) <= MAX_IDS:
            raise refuse(f"ids has {len(wanted.ids)} entries", f"use 1 to {MAX_IDS}", "ids", len(wanted.ids))
        found["ids"] = tuple(check_uuid("ids", one) for one in wanted.ids)
    if given(wanted.parent_id):
        found["parent"] = check_uuid("parentId", wanted.parent_id)
    if given(wanted.idempotency_key):
        found["key_digest"] = digest(str(wanted.idempotency_key)[: MAX_KEY_LENGTH + 1])
    for field, shown in _TIMES.items():
        if given(value := getattr(wanted, field)):
            found[f"{field}_ms"] = check_time(shown, value)
    return found
