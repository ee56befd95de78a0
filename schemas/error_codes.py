"""The one table of error codes: what each means, what to do, and what it is in every place that shows it.

The enumeration and the types of the schema, the rejections of owners, the exceptions of the Python client, the exit
statuses of the program and the page of the documentation are made from it, or checked against it by a test. Types and
exceptions are named: their classes are the business of the places that have them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from jobledger.domain.values import Code


class ErrorCode(StrEnum):
    """Codes of the errors that a caller can do something about; part of the public contract."""

    ALREADY_ENDED = "ALREADY_ENDED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INVALID = "INVALID"
    INVALID_CURSOR = "INVALID_CURSOR"
    INVALID_POSITION = "INVALID_POSITION"
    INVALID_STATE = "INVALID_STATE"
    NOT_ENABLED = "NOT_ENABLED"
    NOT_FOUND = "NOT_FOUND"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    POSITION_NOT_REACHED = "POSITION_NOT_REACHED"
    QUEUE_FULL = "QUEUE_FULL"
    UNAVAILABLE = "UNAVAILABLE"
    UNDECIDABLE = "UNDECIDABLE"
    UNKNOWN_QUEUE = "UNKNOWN_QUEUE"


#: A fault of the api: in `extensions.code` only, so it is no member of the enumeration.
INTERNAL = "INTERNAL"
#: Requests that are not looked at, likewise: nothing that was asked can answer with them.
UNAUTHENTICATED = "UNAUTHENTICATED"
RATE_LIMITED = "RATE_LIMITED"
#: Exit statuses of the program: the api decided against it; or nobody could be asked.
REFUSED, UNREACHABLE = 3, 4


class Coded(NamedTuple):
    """One code of the api. `exception` is the Python client's, `answer` the type of the schema that carries it.

    `http` is the outcome as an HTTP status, for metrics and for requests that are refused. `rejections` are the codes
    of owners that are answered with it; `told`: their sentence then goes on with `what_to_do`.
    """

    code: str
    meaning: str
    what_to_do: str
    exception: str
    http: int
    answer: str = "ValidationFailed"
    exit_status: int = REFUSED
    rejections: tuple[Code, ...] = ()
    told: bool = False


class ClientCoded(NamedTuple):
    """A code that only the Python client has, with its exception."""

    exception: str
    code: str
    meaning: str
    what_to_do: str
    exit_status: int = REFUSED


CODES: tuple[Coded, ...] = (
    Coded(
        ErrorCode.INVALID,
        "a value is not what it must be; `path` names it",
        "mend it",
        "InvalidInput",
        400,
        rejections=(Code.INVALID,),
    ),
    Coded(
        ErrorCode.INVALID_CURSOR,
        "a cursor that is of no page of this list",
        "use one that a page gave",
        "InvalidInput",
        400,
    ),
    Coded(
        ErrorCode.INVALID_POSITION,
        "a position that is none of this cell",
        "use one that an answer gave",
        "InvalidInput",
        400,
    ),
    Coded(
        ErrorCode.INVALID_STATE,
        "the job or queue does not allow it now",
        "look at it first",
        "InvalidState",
        409,
        answer="Conflict",
        rejections=(Code.INVALID_STATE, Code.STALE_ASSIGNMENT),
    ),
    Coded(
        ErrorCode.PAYLOAD_TOO_LARGE,
        "over 256 KiB for a job, 8 MiB for a bulk",
        "keep large data elsewhere and send where it is",
        "PayloadTooLarge",
        400,
    ),
    Coded(
        ErrorCode.UNKNOWN_QUEUE,
        "no such queue",
        "create it, or use `default`",
        "QueueNotFound",
        404,
        answer="NotFound",
    ),
    Coded(
        ErrorCode.QUEUE_FULL,
        "as many payload bytes wait as the queue takes",
        "try later, or raise the limit",
        "QueueFull",
        429,
        answer="QueueFull",
    ),
    Coded(
        ErrorCode.NOT_FOUND,
        "no such job or queue, or it ended too long ago",
        "check the id",
        "NotFound",
        404,
        answer="NotFound",
        rejections=(Code.NOT_FOUND_OR_EXPIRED,),
        told=True,
    ),
    Coded(
        ErrorCode.ALREADY_EXISTS,
        "the name is taken",
        "use another name, or update what exists",
        "AlreadyExists",
        409,
        answer="Conflict",
        rejections=(Code.ALREADY_EXISTS,),
        told=True,
    ),
    Coded(
        ErrorCode.ALREADY_ENDED,
        "the job has ended, `status` of the `Conflict` says how; a dead letter can be redriven or discarded",
        "an ended job stays as it is",
        "AlreadyEnded",
        409,
        answer="Conflict",
        rejections=(Code.ALREADY_ENDED,),
        told=True,
    ),
    Coded(
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        "the key, or the command id, stands for another job",
        "submit another job under an id or key of its own",
        "IdempotencyKeyReused",
        409,
        answer="IdempotencyKeyReused",
        rejections=(Code.IDEMPOTENCY_KEY_REUSED,),
        told=True,
    ),
    Coded(
        ErrorCode.NOT_ENABLED,
        "the formats that it needs are not enabled in the cell; nothing was done",
        "an operator enables them: docs/how-to/upgrade.md",
        "NotEnabled",
        409,
        answer="Conflict",
        rejections=(Code.NOT_ENABLED,),
    ),
    Coded(
        ErrorCode.UNDECIDABLE,
        "the command could not be decided: a fault of ours",
        "report it: the command was put aside for the operators",
        "Undecidable",
        409,
        answer="Conflict",
        rejections=(Code.UNDECIDABLE,),
        told=True,
    ),
    Coded(
        ErrorCode.POSITION_NOT_REACHED,
        "the read model is not there yet",
        "ask again; the client does so by itself",
        "ReadModelBehind",
        503,
    ),
    Coded(
        ErrorCode.UNAVAILABLE,
        "Kafka or Postgres can't be reached; nothing was done",
        "try again",
        "Unavailable",
        503,
        answer="Unavailable",
        exit_status=UNREACHABLE,
    ),
    Coded(
        UNAUTHENTICATED,
        "the api asks for an API key, and there is none or a wrong one",
        "give the client its key (`JOBLEDGER_API_KEY`)",
        "Unauthenticated",
        401,
        answer="",
    ),
    Coded(
        RATE_LIMITED,
        "more requests than the api allows its tenant or this peer; nothing was done",
        "try again after `Retry-After` seconds; the client does so by itself",
        "RateLimited",
        429,
        answer="",
    ),
    Coded(
        INTERNAL,
        "a fault of the api; its log has the whole of it, by the trace id",
        "report it",
        "InternalError",
        500,
        answer="",
    ),
)

CLIENT_CODES: tuple[ClientCoded, ...] = (
    ClientCoded(
        "OutcomeUnknown",
        "PENDING",
        "sent, and no outcome in time; has `command_id` and, if it is known, `job_id`",
        "send it again with that `command_id`",
        UNREACHABLE,
    ),
    ClientCoded(
        "ConnectionDropped",
        ErrorCode.UNAVAILABLE,
        "the connection broke in the middle; is an `Unavailable`",
        "as the client does: the same again",
        UNREACHABLE,
    ),
    ClientCoded(
        "NotAnApi",
        "NOT_AN_API",
        "something else answers at the address, such as Kafka",
        "mend the address",
        UNREACHABLE,
    ),
    ClientCoded(
        "WaitTimeout",
        "WAIT_TIMEOUT",
        "the job has not ended in the time given; names job and status; is a `TimeoutError`",
        "wait again, or look why",
    ),
    ClientCoded(
        "JobFailed",
        "DEAD_LETTERED",
        "the job was given up; has `cause`, `error_type`, `error`, `attempts`",
        "look at the error",
    ),
    ClientCoded("JobCancelled", "CANCELLED", "the job was cancelled, so it has no result", "-"),
    ClientCoded(
        "ResultMismatch",
        "RESULT_MISMATCH",
        "the result is not of the type that the function here declares; has `result`",
        "bring caller and worker to one version",
    ),
    ClientCoded(
        "BulkError",
        "BULK",
        "some jobs of a bulk were not accepted; has `jobs` and `errors` by place",
        "send those again",
    ),
)

#: By the code of an owner's rejection.
BY_REJECTION: dict[Code, Coded] = {code: coded for coded in CODES for code in coded.rejections}
#: By code, of the api's and the client's own.
EXIT_STATUS: dict[str, int] = {coded.code: coded.exit_status for coded in CODES}
EXIT_STATUS |= {coded.code: coded.exit_status for coded in CLIENT_CODES}
