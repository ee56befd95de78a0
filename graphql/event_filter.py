"""Which events a subscription wants."""

from __future__ import annotations

from dataclasses import dataclass

import strawberry

from jobledger.domain.identity import job_stream, partition_of
from jobledger.graphql.filters import MAX_IDS
from jobledger.graphql.types.errors import QueryError
from jobledger.graphql.types.inputs import JobEventFilter
from jobledger.graphql.validation import Refused, check_name, check_tags, check_uuid, given, refuse
from jobledger.schemas.events import EVENT_CLASSES, TYPE_PREFIX, EventRecord

_TAG = {cls: str(cls.__struct_config__.tag) for cls in EVENT_CLASSES}
#: Names of types as a filter may give them: with or without prefix and version.
_NAMES: dict[str, set[type]] = {}
for _cls, _tag in _TAG.items():
    for _name in (_tag, _tag.rpartition(".v")[0], TYPE_PREFIX + _tag, TYPE_PREFIX + _tag.rpartition(".v")[0]):
        _NAMES.setdefault(_name, set()).add(_cls)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A checked filter. `prefix`: how the keys of wanted events begin (with `job`, the whole key).

    `streams`: those of the jobs, where several are named.
    """

    tenant: str
    prefix: bytes
    job: str | None = None
    streams: frozenset[str] | None = None
    types: frozenset[type] | None = None
    queue: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, tenant: str, wanted: JobEventFilter | None, *, from_start: bool, after: bool) -> EventFilter:
        """Check a filter; raises QueryError."""
        try:
            return cls._checked(tenant, wanted or JobEventFilter(), from_start, after)
        except Refused as refused:
            refused.error.path = ["filter", *refused.error.path]
            raise QueryError(refused.error) from None

    @classmethod
    def _checked(cls, tenant: str, wanted: JobEventFilter, from_start: bool, after: bool) -> EventFilter:
        job = check_uuid("jobId", wanted.job_id) if given(wanted.job_id) else None
        several = given(wanted.job_ids) and wanted.job_ids is not None
        if job is not None and several:
            raise refuse("jobId and jobIds are both given", "give one of them", "jobIds", job)
        if from_start and job is None:
            raise refuse("fromStart needs jobId", "name a job, or leave fromStart out", "jobId", None)
        if from_start and after:
            raise refuse("fromStart and after are both given", "give one of them", "fromStart", True)
        return cls(
            tenant=tenant,
            prefix=(job_stream(tenant, job) if job else f"job:{tenant}:").encode(),
            job=job,
            streams=_streams(tenant, wanted.job_ids or []) if several else None,
            types=_types(wanted.types) if given(wanted.types) and wanted.types is not None else None,
            queue=check_name("Queue", "queue", wanted.queue) if given(wanted.queue) else None,
            tags=tuple(check_tags(wanted.tags).items()) if wanted.tags else (),
        )

    def partitions(self, count: int) -> list[int]:
        """The partitions in which such events can be."""
        if self.job is not None:
            return [partition_of(job_stream(self.tenant, self.job), count)]
        if self.streams is not None:
            return sorted({partition_of(stream, count) for stream in self.streams})
        return list(range(count))

    def matches(self, record: EventRecord) -> bool:
        """Whether an event is wanted, as far as the event alone tells (not its queue)."""
        if self.types is not None and type(record.data) not in self.types:
            return False
        if record.tenant != self.tenant:
            return False
        if self.streams is not None and record.originator_id not in self.streams:
            return False
        tags = record.lineage.tags
        return all(tags.get(name) == value for name, value in self.tags)


def _streams(tenant: str, ids: list[strawberry.ID]) -> frozenset[str]:
    if not 1 <= len(ids) <= MAX_IDS:
        raise refuse(f"jobIds has {len(ids)} entries", f"use 1 to {MAX_IDS}", "jobIds", len(ids))
    return frozenset(job_stream(tenant, check_uuid(f"jobIds.{index}", one)) for index, one in enumerate(ids))


def _types(names: list[str]) -> frozenset[type]:
    found: set[type] = set()
    for name in names:
        if name not in _NAMES:
            known = ", ".join(sorted(tag.rpartition(".v")[0] for tag in _TAG.values() if not tag.startswith("queue.")))
            raise refuse(f"Event type '{name[:80]}' is not known", f"use some of {known}", "types", name)
        found |= _NAMES[name]
    return frozenset(found)
