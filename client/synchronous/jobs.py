# Written by scripts/sync-client from client/asynchronous/jobs.py: change that, and run it again.
"""A submitted job in the hands of its client."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, Generic, TypeVar

from jobledger.client.answers import checked_timeout
from jobledger.client.deadline import LONGEST_PAUSE, Deadline
from jobledger.client.errors import JobCancelled, JobFailed, ReadModelBehind, Unavailable, WaitTimeout
from jobledger.client.models import JobEvent, JobView, job_event
from jobledger.client.operations import documents, inputs
from jobledger.client.results import read_result
from jobledger.client.synchronous.calls import Calls
from jobledger.client.synchronous.following import END_TYPES, follow
from jobledger.domain.job.state import TERMINAL, JobStatus
from jobledger.workers.handler import Handler

Result_co = TypeVar("Result_co", covariant=True)


class Job(Generic[Result_co]):
    """A job by its id. `duplicate`: the submission met an earlier one, this is that job.

    `position`: from where readers see its submission; None for a job that was named by its id.
    """

    def __init__(
        self,
        client: Calls,
        job_id: str,
        position: str | None = None,
        duplicate: bool = False,
        handler: Handler[..., Any] | None = None,
    ) -> None:
        self._client = client
        self._handler = handler
        self.id = job_id
        self.position = position
        self.duplicate = duplicate

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    def view(self) -> JobView:
        """All that the read model shows of it, and not less than this client has seen of the log; raises NotFound."""
        return self._client.job_view(self.id, self.position)

    def status(self) -> JobStatus:
        """Its status now; raises NotFound."""
        return (self.view()).status

    def cancel(self, reason: str | None = None) -> JobStatus | None:
        """Stop it: CANCELLED, or CANCELLING while a worker has still to agree; raises AlreadyEnded, NotFound."""
        return self._client.cancel(self.id, reason)

    def redrive(self, reason: str | None = None) -> JobStatus | None:
        """Run it again, with all its attempts, after it was dead-lettered; raises AlreadyEnded, NotFound."""
        return self._client.redrive(self.id, reason)

    def discard(self, reason: str | None = None) -> JobStatus | None:
        """Close it after it was dead-lettered: DISCARDED; raises AlreadyEnded, NotFound."""
        return self._client.discard(self.id, reason)

    def result(self, timeout: float | None = None) -> Result_co:
        """Wait for its end and return what its handler returned, as the type that a decorated function declares.

        Raises JobFailed, JobCancelled, NotFound, ResultMismatch, and WaitTimeout (a TimeoutError) after `timeout`
        seconds. A dropped connection is opened again.
        """
        view = self.wait(timeout)
        if view.status is JobStatus.SUCCEEDED:
            result: Result_co = read_result(self._handler, self.id, view.result)
            return result
        if view.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id, view.cancel_reason)
        raise JobFailed(self.id, view.dead_letter_cause, view.error_type, view.error, view.attempt)

    def wait(self, timeout: float | None = None) -> JobView:
        """Wait for its end, whatever it is; raises WaitTimeout (a TimeoutError) after `timeout` seconds, and NotFound.

        Unavailable when the API is away for longer than the client's time-out.
        """
        deadline = Deadline(None if timeout is None else checked_timeout(timeout))
        status: JobStatus | None = None
        try:
            view = self._client.job_view(self.id, self.position, deadline=deadline)
            status = view.status
            after: str | None = None
            while not view.ended:  # again for a job that was given up before, and then redriven
                after = self._end(after, deadline)
                view = self._client.job_view(self.id, deadline=deadline)
                status = view.status
            return view
        except TimeoutError as error:
            raise WaitTimeout(self.id, timeout or 0, status) from error
        except (Unavailable, ReadModelBehind) as error:
            if not deadline.within(LONGEST_PAUSE):
                raise
            raise WaitTimeout(self.id, timeout or 0, status, reason=error.message) from error

    def _end(self, after: str | None, deadline: Deadline) -> str:
        """The position of the next event that ends it; the client has then seen it."""
        wanted: inputs.JobEventFilter = {"jobId": self.id, "types": END_TYPES}
        follows = follow(self._client, lambda at: documents.follow_jobs(wanted, at is None, at), after, deadline)
        with closing(follows) as items:
            for item in items:
                return item["position"]
        raise AssertionError("a subscription goes on until it brings the end")

    def events(self, after: str | None = None) -> Generator[JobEvent, None]:
        """Its events from the first one (or behind `after`) to the one that ends it, none missing or twice."""
        wanted: inputs.JobEventFilter = {"jobId": self.id}
        follows = follow(self._client, lambda at: documents.follow_jobs(wanted, at is None, at), after, Deadline(None))
        with closing(follows) as items:
            for item in items:
                event = job_event(item)
                yield event
                if event.status in TERMINAL:
                    return
