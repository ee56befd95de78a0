"""The API's errors as exceptions; `code` is the API's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobledger.domain.job.state import JobStatus
from jobledger.schemas.error_codes import CODES


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
    """INVALID, INVALID_CURSOR, INVALID_POSITION: a value is not what it must be; `path` names it."""


class InvalidState(JobledgerError):
    """INVALID_STATE: the job or queue does not allow it now."""


class QueueNotFound(JobledgerError):
    """UNKNOWN_QUEUE: no such queue; create it first."""


class QueueFull(JobledgerError):
    """QUEUE_FULL: more payload bytes wait than the queue takes; try later."""


class NotFound(JobledgerError):
    """NOT_FOUND: no such job or queue."""


class AlreadyEnded(JobledgerError):
    """ALREADY_ENDED: the job has ended, so it can't be changed; `status` says how, None when nobody could say."""

    status: JobStatus | None = None


class AlreadyExists(JobledgerError):
    """ALREADY_EXISTS: the name is taken."""


class IdempotencyKeyReused(JobledgerError):
    """IDEMPOTENCY_KEY_REUSED: the key, or the command id, was used with another job."""


class PayloadTooLarge(JobledgerError):
    """PAYLOAD_TOO_LARGE: over 256 KiB for a job or 8 MiB for a bulk."""


class NotEnabled(JobledgerError):
    """NOT_ENABLED: the cell does not take it before an operator has enabled the formats of its release."""


class Undecidable(JobledgerError):
    """UNDECIDABLE: the command could not be decided and is in quarantine; report it."""


class ReadModelBehind(JobledgerError):
    """POSITION_NOT_REACHED: the read model does not show yet what this client has seen; ask again later."""


class Unavailable(JobledgerError):
    """UNAVAILABLE: the API, or something that it needs, could not be reached in time; nothing was done."""


class RateLimited(Unavailable):
    """RATE_LIMITED: more requests than the API allows; nothing was done. An Unavailable: the client tries again."""


class Unauthenticated(JobledgerError):
    """UNAUTHENTICATED: the API asks for an API key, and this client has none, or a wrong one."""


class ConnectionDropped(Unavailable):
    """UNAVAILABLE: the connection to the API broke; whether it had done what was asked is not known."""


class InternalError(JobledgerError):
    """INTERNAL: a fault of the API, which its log explains."""


class NotAnApi(JobledgerError):
    """NOT_AN_API: something answers at the address, but not as Jobledger's API does."""


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
    """DEAD_LETTERED: the job was given up: `error_type` and `error` of its last attempt, `cause` FAILED, TIMEOUT …"""

    def __init__(self, job_id: str, cause: str, error_type: str, error: str, attempts: int) -> None:
        what = f"{error_type}: {error}" if error_type else cause
        super().__init__(f"Job {job_id} was given up after {attempts} attempt(s): {what}", "DEAD_LETTERED")
        self.job_id = job_id
        self.cause = cause
        self.error_type = error_type
        self.error = error
        self.attempts = attempts


class JobCancelled(JobledgerError):
    """CANCELLED: the job was cancelled, so it has no result."""

    def __init__(self, job_id: str, reason: str = "") -> None:
        super().__init__(f"Job {job_id} was cancelled" + (f": {reason}" if reason else "."), "CANCELLED")
        self.job_id = job_id
        self.reason = reason


class WaitTimeout(JobledgerError, TimeoutError):
    """WAIT_TIMEOUT: the job has not ended in the time that was to be waited; it goes on. A TimeoutError too.

    `status`: the last that was seen of it, None when nobody could say.
    """

    def __init__(self, job_id: str, timeout: float, status: str | None, more: int = 0, reason: str = "") -> None:
        others = f", nor have {more} others" if more else ""
        stands = f"its status is {status}" if status else "its status could not be read"
        why = f" ({reason.rstrip('.')})" if reason else ""
        super().__init__(f"Job {job_id} has not ended after {timeout:g} s{others}; {stands}{why}.", "WAIT_TIMEOUT")
        self.job_id = job_id
        self.status = status


class ResultMismatch(JobledgerError):
    """RESULT_MISMATCH: the job succeeded, but what it returned isn't of the type that the handler declares here.

    `result` is the plain JSON value.
    """

    def __init__(self, job_id: str, handler: str, problem: str, result: Any) -> None:
        super().__init__(
            f"The result of job {job_id} is not what handler '{handler}' declares to return: {problem}; "
            f"`error.result` has it as plain JSON.",
            "RESULT_MISMATCH",
            ["result"],
        )
        self.job_id = job_id
        self.result = result


class BulkError(JobledgerError):
    """BULK: some jobs of a bulk were not accepted, or are not known to be.

    `errors` by place in the input, `jobs` in order with None at those places: the handles of all that were accepted.
    """

    def __init__(self, jobs: Sequence[Any], errors: Mapping[int, JobledgerError]) -> None:
        first = min(errors)
        super().__init__(
            f"{len(errors)} of {len(jobs)} jobs were not accepted; number {first}: {errors[first]}", "BULK"
        )
        self.jobs = list(jobs)
        self.errors = dict(errors)


#: By the API's codes.
BY_CODE: dict[str, type[JobledgerError]] = {coded.code: globals()[coded.exception] for coded in CODES}


def error_from(answer: Mapping[str, Any]) -> JobledgerError:
    """The exception for a UserError of the API, or for the `extensions` and message of a GraphQL error."""
    code = str(answer.get("code") or "")
    path = [str(part) for part in answer.get("path") or ([answer["argument"]] if answer.get("argument") else [])]
    value = answer.get("value")
    error = BY_CODE.get(code, JobledgerError)(
        str(answer.get("message") or "The API refused without a reason."),
        code,
        path,
        None if value is None else str(value),
        str(answer.get("remedy") or ""),
    )
    if isinstance(error, AlreadyEnded) and answer.get("status"):
        error.status = JobStatus(answer["status"])
    return error
