# Written by scripts/sync-client from client/asynchronous/client.py: change that, and run it again.
"""The synchronous client."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Concatenate, TypeVar, Unpack, overload

import uuid_utils

from jobledger.client.answers import checked_timeout
from jobledger.client.bulk import Bulk, Part
from jobledger.client.deadline import Deadline, NotDecided
from jobledger.client.errors import (
    BulkError,
    ConnectionDropped,
    JobledgerError,
    Unavailable,
    error_from,
)
from jobledger.client.models import (
    JobPage,
    QueueView,
    ServiceLevelView,
    WorkerView,
    job_view,
    queue_view,
    service_level_view,
    worker_view,
)
from jobledger.client.operations import documents, inputs, outputs
from jobledger.client.primitives import tries
from jobledger.client.questions import QueueOptions, change_of, checked_days, checked_first, checked_text, wanted_jobs
from jobledger.client.spec import NO_PAYLOAD, JobOptions, JobSpec, spec_of
from jobledger.client.synchronous.calls import Calls
from jobledger.client.synchronous.completing import as_completed
from jobledger.client.synchronous.jobs import Job
from jobledger.domain.job.state import JobStatus
from jobledger.domain.service_levels import WINDOW_DAYS
from jobledger.workers.context import Context
from jobledger.workers.handler import Handler

T = TypeVar("T")
Payload = TypeVar("Payload")
Result = TypeVar("Result")


class Client(Calls):
    """Talks to one API.

        with Client("http://127.0.0.1:8080") as client:
            job = client.submit(send_email, {"to": "a@b"})
            print(job.result(timeout=30))

    `url`: else JOBLEDGER_API_URL. `api_key`: else JOBLEDGER_API_KEY. `timeout`: seconds that a call may take, with all
    its repeats: a command without an outcome is sent again under the same id until then, and OutcomeUnknown carries
    that id afterwards.

    Every read waits for what this client has seen of the log in any answer before, whichever job it was about.
    Raises InvalidInput for an address, time-out, header or key that can't be.
    """

    # -- jobs ---------------------------------------------------------------------------------------------------------

    @overload
    def submit(
        self,
        handler: Handler[Concatenate[Payload, ...], Coroutine[Any, Any, Result]],
        payload: Payload | Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> Job[Result]: ...
    @overload
    def submit(
        self,
        handler: Handler[Concatenate[Payload, ...], Result],
        payload: Payload | Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> Job[Result]: ...
    @overload
    def submit(
        self,
        handler: Handler[[], Coroutine[Any, Any, Result]] | Handler[[Context], Coroutine[Any, Any, Result]],
        payload: object = ...,
        **options: Unpack[JobOptions],
    ) -> Job[Result]: ...
    @overload
    def submit(
        self,
        handler: Handler[[], Result] | Handler[[Context], Result],
        payload: object = ...,
        **options: Unpack[JobOptions],
    ) -> Job[Result]: ...
    @overload
    def submit(self, handler: str, payload: object = ..., **options: Unpack[JobOptions]) -> Job[Any]: ...
    def submit(
        self, handler: str | Handler[..., Any], payload: object = NO_PAYLOAD, **options: Unpack[JobOptions]
    ) -> Job[Any]:
        """Submit a job; its parameters are those of JobSpec. Raises the API's errors, and OutcomeUnknown."""
        spec = spec_of(handler, payload, options)
        given = spec.as_input()
        answer = self._decided(documents.submit_job(given), str(given["commandId"]))
        return self._job_of(spec, answer["job"]["id"], answer["position"], answer["duplicate"])

    def _job_of(self, spec: JobSpec, job_id: str, position: str, duplicate: bool) -> Job[Any]:
        handler = spec.handler if isinstance(spec.handler, Handler) else None
        return Job(self, job_id, position, duplicate, handler)

    @overload
    def run(
        self,
        handler: Handler[Concatenate[Payload, ...], Coroutine[Any, Any, Result]],
        payload: Payload | Mapping[str, Any],
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    def run(
        self,
        handler: Handler[Concatenate[Payload, ...], Result],
        payload: Payload | Mapping[str, Any],
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    def run(
        self,
        handler: Handler[[], Coroutine[Any, Any, Result]] | Handler[[Context], Coroutine[Any, Any, Result]],
        payload: object = ...,
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    def run(
        self,
        handler: Handler[[], Result] | Handler[[Context], Result],
        payload: object = ...,
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    def run(
        self, handler: str, payload: object = ..., *, wait_timeout: float | None = ..., **options: Unpack[JobOptions]
    ) -> Any: ...
    def run(
        self,
        handler: Any,
        payload: Any = NO_PAYLOAD,
        *,
        wait_timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Submit a job as `submit` does, wait for its end and return its result as `job.result` does.

        WaitTimeout after `wait_timeout` seconds names the job, which goes on.
        """
        job: Job[Any] = self.submit(handler, payload, **options)
        return job.result(wait_timeout)

    def submit_many(self, specs: Iterable[JobSpec]) -> list[Job[Any]]:
        """Submit many jobs, a thousand to a request; their handles in order, `duplicate` among them.

        Raises BulkError when some were not accepted, or are not known to be: it has the handles of all others. A part
        that finds no API ends it: what comes after it is not sent.
        """
        bulk = Bulk(specs)
        lost: JobledgerError | None = None
        for part in bulk.parts():
            if lost is None:
                lost = self._submit_part(bulk, part)
            else:
                bulk.not_sent(part, lost)
        if bulk.errors:
            raise BulkError(bulk.jobs, bulk.errors)
        return bulk.jobs

    def _submit_part(self, bulk: Bulk, part: Part) -> JobledgerError | None:
        """Send a part until each item is decided; the error when the API was away to the end."""
        left = list(range(len(part.inputs)))
        deadline = Deadline(self.timeout)
        sent = False
        try:
            for attempt in tries(Unavailable, deadline):
                with attempt:
                    sent_now = [part.inputs[index] for index in left]
                    try:
                        answer = self._perform(documents.submit_jobs(sent_now), deadline)
                    except ConnectionDropped:
                        sent = True
                        raise
                    if "code" in answer:
                        raise error_from(answer)
                    sent = True
                    left = self._settle(bulk, part, left, answer)
                    if left:
                        raise NotDecided
        except JobledgerError as error:
            bulk.failed(part, left, error, sent=sent)
            away = isinstance(error, Unavailable) and not isinstance(error, NotDecided)
            return error if away else None
        return None

    def _settle(self, bulk: Bulk, part: Part, left: list[int], answer: outputs.SubmitJobsSuccess) -> list[int]:
        """Note handles and errors of those that are decided; the others."""
        self.positions.note(answer["position"])
        problems = {problem["index"]: problem["error"] for problem in answer["problems"]}
        duplicates = set(answer["duplicateIndexes"])
        pending: list[int] = []
        for index, place in enumerate(left):
            at = part.places[place]
            if index not in problems:
                job_id = str(answer["jobIds"][index])
                bulk.jobs[at] = self._job_of(part.specs[place], job_id, answer["position"], index in duplicates)
            elif (error := problems[index]) is not None:
                bulk.errors[at] = error_from(error)
            else:
                pending.append(place)
        return pending

    def job(self, job_id: str) -> Job[Any]:
        """A job that was submitted before; asks nobody."""
        return Job(self, job_id)

    def jobs(
        self,
        *,
        status: Sequence[JobStatus | str] = (),
        queue: str | None = None,
        handler: str | None = None,
        tags: Mapping[str, str] | None = None,
        first: int = 50,
        after: str | None = None,
    ) -> JobPage:
        """A page of jobs, newest first; with all that this client has submitted or changed."""
        wanted = wanted_jobs(status, queue, handler, tags)
        checked_first(first)
        cursor = checked_text("after", after)
        page = self.ask(lambda position: documents.read_jobs(first, wanted, cursor, position))
        more = page["pageInfo"]["hasNextPage"]
        return JobPage(
            jobs=[job_view(edge["node"]) for edge in page["edges"]],
            cursor=page["pageInfo"]["endCursor"] if more else None,
            position=page["position"],
        )

    def as_completed(self, jobs: Iterable[Job[Result]], timeout: float | None = None) -> Generator[Job[Result], None]:
        """The jobs as they end, however they end: those that have ended first. One subscription serves them all.

        Raises WaitTimeout after `timeout` seconds in all, and NotFound.
        """
        deadline = Deadline(None if timeout is None else checked_timeout(timeout))
        with closing(as_completed(self, list(jobs), timeout, deadline)) as ended:
            for job in ended:
                yield job

    # -- queues and workers -------------------------------------------------------------------------------------------

    def create_queue(self, name: str, **settings: Unpack[QueueOptions]) -> str:
        """Create a queue; the position at which it is there. Raises AlreadyExists, InvalidInput."""
        command_id = str(uuid_utils.uuid7())
        given: inputs.CreateQueueInput = {**change_of(name, **settings), "commandId": command_id}
        return (self._decided(documents.create_queue(given), command_id))["position"]

    def update_queue(self, name: str, **settings: Unpack[QueueOptions]) -> str:
        """Change what is given; the position at which it holds. Raises NotFound, InvalidInput."""
        command_id = str(uuid_utils.uuid7())
        given: inputs.UpdateQueueInput = {**change_of(name, **settings), "commandId": command_id}
        return (self._decided(documents.update_queue(given), command_id))["position"]

    def queues(self, after: str | None = None) -> list[QueueView]:
        """All queues."""
        self.positions.note(checked_text("after", after))
        return [queue_view(node) for node in self.ask(documents.read_queues)]

    def workers(self, queue: str | None = None) -> list[WorkerView]:
        """Workers that are registered."""
        wanted = checked_text("queue", queue)
        nodes = self.ask(lambda position: documents.read_workers(wanted, position))
        return [worker_view(node) for node in nodes]

    # -- service levels -----------------------------------------------------------------------------------------------

    def slo(self, window_days: int = WINDOW_DAYS) -> list[ServiceLevelView]:
        """The service level objectives, and how the whole cell kept them in the last days, 1 to 30."""
        operation = documents.read_slo(checked_days(window_days))
        return [service_level_view(node) for node in self.retrying(lambda: self._perform(operation))]
