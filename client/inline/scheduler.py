"""All jobs of an inline client, its virtual clock, and what is due."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import uuid_utils

from jobledger.client.bulk import Bulk
from jobledger.client.errors import (
    AlreadyExists,
    IdempotencyKeyReused,
    InvalidInput,
    JobledgerError,
    NotFound,
)
from jobledger.client.inline.log import InlineLog
from jobledger.client.inline.record import TENANT, Record
from jobledger.client.models import JobPage, QueueView, ServiceLevelView
from jobledger.client.questions import QueueOptions, change_of, checked_first, wanted_jobs
from jobledger.client.spec import JobSpec
from jobledger.domain.identity import fault_of_new_job_id, job_stream, minted_ms
from jobledger.domain.job import commands as c
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import events as e
from jobledger.domain.job.evolve import create as create_job
from jobledger.domain.job.state import JobStatus
from jobledger.domain.queue.settings import DEFAULT_QUEUE, DEFAULT_SETTINGS, QueueChanges, changed
from jobledger.domain.service_levels import OBJECTIVES
from jobledger.domain.values import Lineage, Opaque, RetryPolicy
from jobledger.workers.durations import seconds_of
from jobledger.workers.handler import Handler

MAX_ATTEMPTS_RUN = 10_000
#: Fields of a submission, and what the API's input calls them.
_OPTIONS = {name: re.sub("_(.)", lambda found: found[1].upper(), name) for name in c.SubmitJob.__struct_fields__}


class InlineScheduler:
    """Does the work of API, log and owners for the jobs of one process."""

    def __init__(self, handlers: Iterable[Handler[..., Any]], start: datetime | None) -> None:
        self._handlers = {one.name: one for one in handlers}
        self._records: dict[str, Record] = {}
        self._digests: dict[str, tuple[str, Record]] = {}
        self._queues = {DEFAULT_QUEUE: DEFAULT_SETTINGS}
        self.log = InlineLog(start)

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec) -> tuple[Record, bool]:
        """Take a job in; the record, and whether it was there before."""
        given = spec.as_input()
        return self._take(spec, given)

    def submit_many(
        self, specs: Iterable[JobSpec]
    ) -> tuple[list[tuple[Record, bool] | None], dict[int, JobledgerError]]:
        """Take jobs in; what became of each, and errors by place."""
        bulk = Bulk(specs)
        for part in bulk.parts():
            for place, spec, given in zip(part.places, part.specs, part.inputs, strict=True):
                try:
                    bulk.jobs[place] = self._take(spec, given)
                except JobledgerError as error:
                    bulk.errors[place] = error
        return bulk.jobs, bulk.errors

    def _take(self, spec: JobSpec, given: Mapping[str, Any]) -> tuple[Record, bool]:
        if isinstance(spec.handler, Handler):
            self._handlers[spec.handler.name] = spec.handler
        if given["handler"] not in self._handlers:
            raise InvalidInput(
                f"No handler '{given['handler']}' here; give the function itself, or name it: inline(send_email).",
                "INVALID",
                ["handler"],
                given["handler"],
            )
        known = self._known(given)
        if known is not None:
            return known, True
        stream = job_stream(TENANT, _job_id(given))
        decided: Any = jobs.decide(stream, None, self._command(spec, given), self.log.now_ms)
        submitted = decided[0]
        assert isinstance(submitted, e.JobSubmitted)
        lineage = Lineage(parent=given.get("parentId"), tags=dict(spec.tags))
        record = Record(self.log, create_job(stream, submitted, lineage), decided)
        self._records[record.id] = record
        for name in _names(given):
            self._digests[name] = (_digest(given), record)
        return record, False

    def _known(self, given: Mapping[str, Any]) -> Record | None:
        """The job of the same key or command id; raises IdempotencyKeyReused when that is another one."""
        for name in _names(given):
            digest, record = self._digests.get(name, ("", None))
            if record is not None and digest != _digest(given):
                kind, _, value = name.partition(" ")
                raise IdempotencyKeyReused(
                    f"{kind} '{value}' was used with another job; send the same job again, or use another one.",
                    "IDEMPOTENCY_KEY_REUSED",
                    [kind],
                    value,
                )
            if record is not None:
                return record
        return None

    def _command(self, spec: JobSpec, given: Mapping[str, Any]) -> c.SubmitJob:
        due = None
        if spec.at is not None:
            due = int(spec.at.timestamp() * 1000)
        elif "delaySeconds" in given:
            due = self.log.now_ms + round(given["delaySeconds"] * 1000)
        policy = spec.policy()
        options = {name: given[key] for name, key in _OPTIONS.items() if key in given}
        options |= {"payload": Opaque(given["payloadText"]), "retry": RetryPolicy() if policy is None else policy}
        return c.SubmitJob(**options, due_at_ms=due)

    # -- running ------------------------------------------------------------------------------------------------------

    def handler_of(self, record: Record) -> Handler[..., Any]:
        """What runs it."""
        return self._handlers[record.state.handler]

    def due(self) -> Record | None:
        """The job that is to run now, in order of priority."""
        for record in self._records.values():
            record.wake()
        waiting = [record for record in self._records.values() if record.state.status is JobStatus.QUEUED]
        return min(waiting, key=lambda one: one.state.priority, default=None)

    def soonest(self, records: Iterable[Record]) -> Record:
        """Which of these, none of which has ended, comes next: by time, then by priority."""
        return min(records, key=lambda one: (one.due_ms or 0, one.state.priority))

    def move_to(self, record: Record) -> None:
        """Move the clock to where a job is due."""
        self.log.move_to(record.due_ms or 0)
        record.wake()

    def next_ms(self) -> int | None:
        """When something comes due next."""
        return min((record.due_ms for record in self._records.values() if record.due_ms is not None), default=None)

    def until_ms(self, by: str | float | timedelta) -> int:
        """Now and so much; raises InvalidInput."""
        try:
            return self.log.now_ms + round(seconds_of(by) * 1000)
        except ValueError as error:
            raise InvalidInput(f"by: {error}", "INVALID", ["by"], str(by)) from error

    # -- reading ------------------------------------------------------------------------------------------------------

    def record(self, job_id: str) -> Record:
        """A job by its id; raises NotFound."""
        if job_id not in self._records:
            raise NotFound(f"There is no job {job_id}.", "NOT_FOUND", ["id"], job_id)
        return self._records[job_id]

    def page(
        self,
        status: Sequence[JobStatus | str],
        queue: str | None,
        handler: str | None,
        tags: Mapping[str, str] | None,
        first: int,
        after: str | None,
    ) -> JobPage:
        """A page of jobs, newest first. The cursor counts the jobs before it."""
        checked_first(first)
        wanted = set(wanted_jobs(status, queue, handler, tags).get("status") or ())
        found = [
            view
            for view in (record.view() for record in reversed(self._records.values()))
            if (not wanted or view.status in wanted)
            and queue in (None, view.queue)
            and handler in (None, view.handler)
            and (tags or {}).items() <= view.tags.items()
        ]
        start = int(after or 0)
        end = start + first
        return JobPage(
            jobs=found[start:end], cursor=str(end) if end < len(found) else None, position=self.log.position()
        )

    def service_levels(self, window_days: int) -> list[ServiceLevelView]:
        """The objectives, of which nothing is known."""
        nothing: dict[str, Any] = dict.fromkeys(("since", "actual", "error_budget_remaining", "burn_rate"))
        nothing |= {"total": 0, "bad": 0, "excluded": 0, "error_budget": 0.0}
        return [
            ServiceLevelView(
                name=one.name, objective=one.meaning, target=one.target, window_days=window_days, **nothing
            )
            for one in OBJECTIVES
        ]

    # -- queues -------------------------------------------------------------------------------------------------------

    def create_queue(self, name: str, settings: QueueOptions) -> str:
        """Note a queue; raises AlreadyExists."""
        change_of(name, **settings)
        if name in self._queues:
            problem = f"Queue '{name}' exists already; use another name, or update what exists."
            raise AlreadyExists(problem, "ALREADY_EXISTS", ["name"], name)
        self._queues[name] = changed(DEFAULT_SETTINGS, QueueChanges(**settings))
        return self.log.position()

    def update_queue(self, name: str, settings: QueueOptions) -> str:
        """Change it; raises NotFound."""
        change_of(name, **settings)
        if name not in self._queues:
            raise NotFound(f"There is no queue '{name}'.", "NOT_FOUND", ["name"], name)
        self._queues[name] = changed(self._queues[name], QueueChanges(**settings))
        return self.log.position()

    def queues(self) -> list[QueueView]:
        """All that were created or used."""
        waiting: dict[str, list[int]] = {name: [] for name in self._queues}
        for record in self._records.values():
            sizes = waiting.setdefault(record.state.queue, [])
            if record.state.status is JobStatus.QUEUED:
                sizes.append(len(record.state.payload.data))
        return [
            QueueView(
                name=name,
                description=self._queues.get(name, DEFAULT_SETTINGS).description,
                max_waiting_bytes=self._queues.get(name, DEFAULT_SETTINGS).max_waiting_bytes,
                waiting=len(sizes),
                waiting_bytes=sum(sizes),
                held=0,
            )
            for name, sizes in sorted(waiting.items())
        ]


def _job_id(given: Mapping[str, Any]) -> str:
    """As the API does it: without a key, command and job have one id. Its time is not judged by a virtual clock."""
    wanted: str = given["commandId"]
    if "idempotencyKey" in given:
        return str(uuid_utils.uuid7())
    fault = fault_of_new_job_id(wanted, minted_ms(wanted) or 0)
    if fault is not None:
        raise InvalidInput(fault, "INVALID", ["command_id"], wanted)
    return wanted


def _names(given: Mapping[str, Any]) -> list[str]:
    """What a submission is known by again."""
    names = [f"command_id {given['commandId']}"]
    if "idempotencyKey" in given:
        names.insert(0, f"idempotency_key {given['idempotencyKey']}")
    return names


def _digest(given: Mapping[str, Any]) -> str:
    """Of everything that makes a submission, but the command's id."""
    rest = {name: value for name, value in given.items() if name != "commandId"}
    return sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()
