"""Errors of users: types behind the interface `UserError` in unions, and coded errors of queries."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry import UNSET

from jobledger.graphql.types.inputs import GraphQLJobStatus
from jobledger.schemas import error_codes

ErrorCode = error_codes.ErrorCode
strawberry.enum(ErrorCode, description="What was wrong. Messages are for people, codes for programs.")

#: The outcome as an HTTP status, for metrics and for rejected requests.
HTTP_STATUS: dict[str, int] = {coded.code: coded.http for coded in error_codes.CODES}


@strawberry.interface(description="Something that the caller can mend; nothing was changed.")
class UserError:
    """What every typed error says."""

    code: ErrorCode
    message: str = strawberry.field(description="One sentence that names field, value and remedy.")
    path: list[str] = strawberry.field(description="Where in the input, outermost first.")
    value: str | None = strawberry.field(default=None, description="The value that was refused, shortened.")
    remedy: str = strawberry.field(default="", description="What to do instead.")


@strawberry.type(description="A field of the input is not as it must be.")
class ValidationFailed(UserError):
    """INVALID, PAYLOAD_TOO_LARGE."""


@strawberry.type(description="There is no queue, or no live job, of that name.")
class NotFound(UserError):
    """UNKNOWN_QUEUE, NOT_FOUND."""


@strawberry.type(description="The state of the job or queue does not allow it.")
class Conflict(UserError):
    """ALREADY_ENDED, ALREADY_EXISTS, INVALID_STATE, NOT_ENABLED, UNDECIDABLE."""

    status: GraphQLJobStatus | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="Of the job that does not allow it: for ALREADY_ENDED, how it ended."
    )


@strawberry.type(description="The idempotency key stands for another job already.")
class IdempotencyKeyReused(UserError):
    """IDEMPOTENCY_KEY_REUSED."""


@strawberry.type(description="As many bytes wait in the queue as it may hold.")
class QueueFull(UserError):
    """QUEUE_FULL."""


@strawberry.type(description="Something that is needed to answer is away; nothing was sent.")
class Unavailable(UserError):
    """UNAVAILABLE."""


_NAMED = (ValidationFailed, NotFound, Conflict, IdempotencyKeyReused, QueueFull, Unavailable)
_BY_NAME: dict[str, type[UserError]] = {cls.__name__: cls for cls in _NAMED}
_TYPES = {coded.code: _BY_NAME[coded.answer] for coded in error_codes.CODES if coded.answer}

_LONGEST_VALUE = 120


def shorten(value: object) -> str:
    """A value as an error may show it: at most 120 characters."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def user_error(
    code: ErrorCode, problem: str, remedy: str = "", path: list[str] | None = None, value: object = UNSET
) -> UserError:
    """The typed error of `code`; its message is the problem and the remedy in one sentence."""
    cls = _TYPES[code]
    message = f"{problem}; {remedy}." if remedy else f"{problem}."
    shown = None if value is UNSET else shorten(value)
    return cls(code=code, message=message, path=path or [], value=shown, remedy=remedy)


class QueryError(GraphQLError):
    """An error of a query's caller, or of what the query needs: not masked, with its code in `extensions`."""

    def __init__(self, error: UserError) -> None:
        super().__init__(
            error.message,
            extensions={
                "code": error.code.value,
                "argument": ".".join(error.path),
                "value": error.value,
                "remedy": error.remedy,
            },
        )
        self.code = error.code
