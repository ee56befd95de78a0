"""The API's errors as exceptions; `code` is the API's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobledger.workers.client.jobs import AsyncJob
    from jobledger.workers.client.sync import Job


class JobledgerError(Exception):
    """Base of the client's errors: `code`, `message`, and `path` and `value` where one input was wrong."""

    def __init__(
        self, message: str, code: str = "", path: Sequence[str] = (), value: str | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = tuple(path)
        self.value = value
        self.remedy = remedy


class InvalidInput(JobledgerError):
    """INVALID: a value is not what it must be; `path` names it."""


class QueueNotFound(JobledgerError):
    """UNKNOWN_QUEUE: no such queue; create it first."""


class QueueFull(JobledgerError):
    """QUEUE_FULL: more payload bytes wait than the queue takes; try later."""


class NotFound(JobledgerError):
    """NOT_FOUND: no such job or queue."""


class AlreadyEnded(JobledgerError):
    """ALREADY_ENDED: the job has ended, so it can't be changed."""


class AlreadyExists(JobledgerError):
    """ALREADY_EXISTS: the name is taken."""


class IdempotencyKeyReused(JobledgerError):
    """IDEMPOTENCY_KEY_REUSED: the key was used with another job."""


class PayloadTooLarge(JobledgerError):
    """PAYLOAD_TOO_LARGE: over 256 KiB for a job or 8 MiB for a bulk."""


class Unavailable(JobledgerError):
    """UNAVAILABLE: the API, or something that it needs, could not be reached in time; nothing was done."""


class OutcomeUnknown(JobledgerError):
    """PENDING: the command was sent and nobody knows yet what became of it.

    Sending it again with the same `command_id` can't do it twice; `job_id` names the job if it was accepted.
    """

    def __init__(self, command_id: str, job_id: str | None = None, message: str = "") -> None:
        super().__init__(
            message or f"The outcome of command {command_id} is unknown; send it again with this command_id.", "PENDING"
        )
        self.command_id = command_id
        self.job_id = job_id


class JobFailed(JobledgerError):
    """The job was given up: `error_type` and `message` of its last attempt, `cause` FAILED, TIMEOUT, LOST …"""

    def __init__(self, job_id: str, cause: str, error_type: str, error: str, attempts: int) -> None:
        what = f"{error_type}: {error}" if error_type else cause
        super().__init__(f"Job {job_id} was given up after {attempts} attempt(s): {what}", "DEAD_LETTERED")
        self.job_id = job_id
        self.cause = cause
        self.error_type = error_type
        self.error = error
        self.attempts = attempts


class JobCancelled(JobledgerError):
    """The job was cancelled, so it has no result."""

    def __init__(self, job_id: str, reason: str = "") -> None:
        super().__init__(f"Job {job_id} was cancelled" + (f": {reason}" if reason else "."), "CANCELLED")
        self.job_id = job_id
        self.reason = reason


class BulkError(JobledgerError):
    """Some jobs of a bulk were not accepted: `errors` by place, `jobs` in order with None at those places."""

    def __init__(self, jobs: Sequence[AsyncJob | Job | None], errors: Mapping[int, JobledgerError]) -> None:
        first = min(errors)
        super().__init__(
            f"{len(errors)} of {len(jobs)} jobs were not accepted; number {first}: {errors[first]}", "BULK"
        )
        self.jobs = list(jobs)
        self.errors = dict(errors)


_BY_CODE: dict[str, type[JobledgerError]] = {
    "ALREADY_ENDED": AlreadyEnded,
    "ALREADY_EXISTS": AlreadyExists,
    "IDEMPOTENCY_KEY_REUSED": IdempotencyKeyReused,
    "INVALID": InvalidInput,
    "INVALID_CURSOR": InvalidInput,
    "INVALID_POSITION": InvalidInput,
    "NOT_FOUND": NotFound,
    "PAYLOAD_TOO_LARGE": PayloadTooLarge,
    "QUEUE_FULL": QueueFull,
    "UNAVAILABLE": Unavailable,
    "UNKNOWN_QUEUE": QueueNotFound,
}


def error_from(answer: Mapping[str, Any]) -> JobledgerError:
    """The exception for a UserError of the API, or for the `extensions` and message of a GraphQL error."""
    code = str(answer.get("code") or "")
    path = [str(part) for part in answer.get("path") or ([answer["argument"]] if answer.get("argument") else [])]
    value = answer.get("value")
    return _BY_CODE.get(code, JobledgerError)(
        str(answer.get("message") or "The API refused without a reason."),
        code,
        path,
        None if value is None else str(value),
        str(answer.get("remedy") or ""),
    )
