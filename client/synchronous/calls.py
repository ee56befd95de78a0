# Written by scripts/sync-client from client/asynchronous/calls.py: change that, and run it again.
"""What every call of the synchronous client goes through: repeats, positions, and what is done to one job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import uuid_utils

from jobledger.client.answers import DEFAULT_URL, api_address, checked_headers, checked_timeout, with_key
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
from jobledger.client.operations import documents, inputs, outputs
from jobledger.client.operations.operation import Operation
from jobledger.client.positions import Positions
from jobledger.client.primitives import Call, tries
from jobledger.client.questions import checked_text, required_text
from jobledger.client.synchronous.transport import Transport
from jobledger.domain.job.state import JobStatus

T = TypeVar("T")
Answer = TypeVar("Answer")
Success = TypeVar("Success")
Changed = outputs.CancelJobSuccess | outputs.RedriveJobSuccess | outputs.DiscardJobSuccess


class Calls:
    """The connections to one API, and what this client has seen of the log; Client has the words for users."""

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self.url = api_address(url or os.environ.get("JOBLEDGER_API_URL") or DEFAULT_URL)
        self.timeout = checked_timeout(timeout)
        self.positions = Positions()
        key = api_key or os.environ.get("JOBLEDGER_API_KEY")
        self.transport = Transport(self.url, with_key(checked_headers(headers), key), self.timeout)

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
        wanted = required_text("job_id", job_id)
        node = self.ask(lambda position: documents.read_job(wanted, position), deadline)
        if node is None:
            raise NotFound(f"There is no job {job_id}.", "NOT_FOUND", ["id"], job_id)
        return job_view(node)

    def cancel(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Cancel a job; its status after the decision. Raises AlreadyEnded, NotFound, OutcomeUnknown."""
        return self._changed(documents.cancel_job, job_id, reason, command_id)

    def redrive(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Run a dead-lettered job again, with all its attempts; its status after the decision.

        Raises AlreadyEnded when it ended otherwise, InvalidState when it has not ended, NotFound, OutcomeUnknown.
        """
        return self._changed(documents.redrive_job, job_id, reason, command_id)

    def discard(self, job_id: str, reason: str | None = None, *, command_id: str | None = None) -> JobStatus | None:
        """Close a dead-lettered job; its status after the decision. Raises as `redrive`."""
        return self._changed(documents.discard_job, job_id, reason, command_id)

    def _changed(
        self,
        change: Callable[[inputs.CancelJobInput], Operation[Changed | outputs.Pending | outputs.UserError]],
        job_id: str,
        reason: str | None,
        command_id: str | None,
    ) -> JobStatus | None:
        wanted, text = required_text("job_id", job_id), checked_text("reason", reason)
        command = checked_text("command_id", command_id) or str(uuid_utils.uuid7())
        answer = self._decided(change({"id": wanted, "reason": text, "commandId": command}), command)
        status = answer["job"]["status"]
        return None if status is None else JobStatus(status)

    # -- asking -------------------------------------------------------------------------------------------------------

    def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any GraphQL query or mutation; its `data`. Sent once."""
        return self.transport.execute(query, variables or {})

    def _perform(self, operation: Operation[Answer], deadline: Deadline | None = None) -> Answer:
        """What the API answers to an operation of the client's own. Sent once."""
        answer: Answer = (self.transport.execute(operation.document, operation.variables, deadline))[operation.field]
        return answer

    def ask(self, query_at: Callable[[str | None], Operation[Answer]], deadline: Deadline | None = None) -> Answer:
        """The answer to the query for a position: that of all that this client has seen."""

        def once() -> Answer:
            return self._perform(query_at(self.positions.to_read()), deadline)

        left = None if deadline is None else deadline.left()
        return self.retrying(once, self.timeout if left is None else min(left, self.timeout))

    def retrying(self, call: Call[T], timeout: float | None = None) -> T:
        """Repeat a call that may be repeated while the API is away or the read model is behind, up to the time-out."""
        deadline = Deadline(self.timeout if timeout is None else timeout)
        for attempt in tries((Unavailable, ReadModelBehind), deadline):
            with attempt:
                answer = call()
        return answer

    def _decided(self, command: Operation[Success | outputs.Pending | outputs.UserError], command_id: str) -> Success:
        """Send a command until it is decided: the same command id, so it takes effect once."""
        deadline = Deadline(self.timeout)
        job_id: str | None = None
        unknown = False
        answer: Any = None
        try:
            for attempt in tries(Unavailable, deadline):
                with attempt:
                    try:
                        answer = self._perform(command, deadline)
                    except ConnectionDropped:
                        unknown = True
                        raise
                    if answer["__typename"] == "Pending":
                        unknown, job_id = True, answer["jobId"] or job_id
                        raise NotDecided
                    if "code" in answer:
                        raise error_from(answer)
        except Unavailable:
            if unknown:
                raise OutcomeUnknown(command_id, job_id) from None
            raise
        self.positions.note(answer["position"])
        success: Success = answer
        return success
