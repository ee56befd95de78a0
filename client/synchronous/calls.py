# Written by scripts/sync-client from client/asynchronous/calls.py: change that, and run it again.
"""What every call of the synchronous client goes through: repeats, positions, and what is done to one job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import uuid_utils

from jobledger.client import documents
from jobledger.client.answers import DEFAULT_URL, api_address, checked_headers, checked_timeout
from jobledger.client.deadline import Deadline, NotDecided
from jobledger.client.errors import (
    ConnectionDropped,
    NotFound,
    OutcomeUnknown,
    ReadModelBehind,
    Unavailable,
    error_from,
)
from jobledger.client.models import JobView, job_view
from jobledger.client.positions import Positions
from jobledger.client.primitives import Call, tries
from jobledger.client.questions import checked_text
from jobledger.client.synchronous.transport import Transport
from jobledger.domain.job.state import JobStatus

T = TypeVar("T")


class Calls:
    """The connections to one API, and what this client has seen of the log; Client has the words for users."""

    def __init__(
        self, url: str | None = None, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = api_address(url or os.environ.get("JOBLEDGER_API_URL") or DEFAULT_URL)
        self.timeout = checked_timeout(timeout)
        self.positions = Positions()
        self.transport = Transport(self.url, checked_headers(headers), self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self.transport.close()

    # -- one job ------------------------------------------------------------------------------------------------------

    def job_view(self, job_id: str, after: str | None = None, *, deadline: Deadline | None = None) -> JobView:
        """What the read model shows of a job, once it has seen position `after` too; raises NotFound."""
        self.positions.note(checked_text("after", after))
        node = (self.ask(documents.JOB, {"id": checked_text("job_id", job_id)}, "after", deadline))["job"]
        if node is None:
            raise NotFound(f"There is no job {job_id}.", "NOT_FOUND", ["id"], job_id)
        return job_view(node)

    def cancel(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Cancel a job; its status after the decision. Raises AlreadyEnded, NotFound, OutcomeUnknown."""
        return self._changed(documents.CANCEL, "cancelJob", job_id, reason, command_id)

    def redrive(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Run a dead-lettered job again, with all its attempts; its status after the decision.

        Raises AlreadyEnded when it ended otherwise, InvalidState when it has not ended, NotFound, OutcomeUnknown.
        """
        return self._changed(documents.REDRIVE, "redriveJob", job_id, reason, command_id)

    def discard(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Close a dead-lettered job; its status after the decision. Raises as `redrive`."""
        return self._changed(documents.DISCARD, "discardJob", job_id, reason, command_id)

    def _changed(
        self, document: str, field: str, job_id: str, reason: str | None, command_id: str | None
    ) -> JobStatus | None:
        given = {"id": checked_text("job_id", job_id), "reason": checked_text("reason", reason)}
        given["commandId"] = checked_text("command_id", command_id) or str(uuid_utils.uuid7())
        answer = self._decided(document, given, field)
        status = answer["job"]["status"]
        return None if status is None else JobStatus(status)

    # -- asking -------------------------------------------------------------------------------------------------------

    def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any GraphQL query or mutation; its `data`. Sent once."""
        return self.transport.execute(query, variables or {})

    def ask(
        self, query: str, variables: Mapping[str, Any], position: str, deadline: Deadline | None = None
    ) -> dict[str, Any]:
        """A query's `data`, not older than what this client has seen: that goes along as the variable `position`."""

        def once() -> dict[str, Any]:
            given = {**variables, position: self.positions.to_read()}
            return self.transport.execute(query, given, deadline)

        left = None if deadline is None else deadline.left()
        return self.retrying(once, self.timeout if left is None else min(left, self.timeout))

    def retrying(self, call: Call[T], timeout: float | None = None) -> T:
        """Repeat a call that may be repeated while the API is away or the read model is behind, up to the time-out."""
        deadline = Deadline(self.timeout if timeout is None else timeout)
        for attempt in tries((Unavailable, ReadModelBehind), deadline):
            with attempt:
                answer = call()
        return answer

    def _decided(self, document: str, given: dict[str, Any], field: str) -> dict[str, Any]:
        """Send a command until it is decided: the same command id, so it takes effect once."""
        deadline = Deadline(self.timeout)
        job_id: str | None = None
        unknown = False
        answer: dict[str, Any] = {}
        try:
            for attempt in tries(Unavailable, deadline):
                with attempt:
                    try:
                        answer = (self.transport.execute(document, {"input": given}, deadline))[field]
                    except ConnectionDropped:
                        unknown = True
                        raise
                    if answer["__typename"] == "Pending":
                        unknown, job_id = True, answer.get("jobId") or job_id
                        raise NotDecided
                    if "code" in answer:
                        raise error_from(answer)
        except Unavailable:
            if unknown:
                raise OutcomeUnknown(given["commandId"], job_id) from None
            raise
        self.positions.note(answer["position"])
        return answer
