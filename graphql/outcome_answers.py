"""Outcomes of commands as answers of mutations."""

from __future__ import annotations

from jobledger.domain.identity import split_stream
from jobledger.domain.job.state import JobStatus
from jobledger.domain.values import Rejection
from jobledger.eventlog.positions import encode_position
from jobledger.graphql.scalars import Position
from jobledger.graphql.types.errors import Conflict, ErrorCode, UserError, shorten, user_error
from jobledger.schemas.error_codes import BY_REJECTION
from jobledger.schemas.outcomes import Outcome


def position_of(cell: str, outcome: Outcome) -> Position:
    """From where a reader sees the outcome's effect."""
    return Position(encode_position(cell, {outcome.partition: outcome.seq}))


def name_of(outcome: Outcome) -> str:
    """The job id or queue name that the command took effect on."""
    return split_stream(outcome.stream)[2]


def status_of(outcome: Outcome) -> JobStatus | None:
    """The job's status after the decision."""
    return JobStatus(outcome.status_after) if outcome.status_after else None


def error_of(outcome: Outcome, path: list[str], value: str | None) -> UserError:
    """A rejection by the owner as a typed error; `path` and `value` stand in where it names none itself.

    Owners know streams, callers know ids and names.
    """
    rejection: Rejection | None = outcome.rejection
    if rejection is None:
        return user_error(ErrorCode.UNDECIDABLE, "The command was rejected without a reason", path=path)
    coded = BY_REJECTION[rejection.code]
    remedy = coded.what_to_do if coded.told else ""
    problem = rejection.message.rstrip(".").replace(outcome.stream, name_of(outcome))
    error = user_error(ErrorCode(coded.code), problem, "" if ";" in problem else remedy, path)
    if isinstance(error, Conflict):
        error.status = status_of(outcome)  # type: ignore[assignment]
    shown = rejection.value.replace(outcome.stream, name_of(outcome)) or value
    error.value = None if shown is None else shorten(shown)
    return error


def not_sent() -> UserError:
    """The answer when too much waits for Kafka already."""
    return user_error(
        ErrorCode.UNAVAILABLE,
        "Too many commands wait for Kafka; this one was not sent and nothing was changed",
        "try again later",
    )
