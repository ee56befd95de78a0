"""The reference page of error codes, made from the table of codes."""

from __future__ import annotations

from collections.abc import Iterator

from jobledger.schemas.error_codes import CLIENT_CODES, CODES

_API = """\
Of the api: `code` of a `UserError`, or `extensions.code` of an error of a query. The message is one sentence that
names field, value and remedy; programs look at the code. HTTP: the status that metrics count. Exit: the status of the
[program](cli.md)."""

_PENDING = """\
Not an error: `Pending`. The command was sent and nobody knows yet what became of it; the client sends it again under
the same id, which cannot do it twice, and raises `OutcomeUnknown` when time is up."""

_CLIENT = "All are `JobledgerError`, and can be imported from `jobledger`. Those that no code of the api stands for:"

_HANDLERS = """\
Also from `jobledger`. `Retry`, `NonRetryable` are raised by handlers, `TaskCancelled` by `ctx.raise_if_cancelled()`;
`PayloadError` and `ResultError` (both `NonRetryable`) fail a job whose payload or result isn't what it must be;
`CheckpointError` is raised by `ctx.checkpoint()`; `HandlerLoadError` ends a worker whose handlers can't be used.

Of a job that failed: `errorType` is the class of the handler's exception, or `ResultError` (the result is not JSON or
too large), `ProcessDied`, `WorkerStopping`. `deadLetterCause` says why it was given up. See
[handlers](../how-to/handlers.md).

Exit statuses of the program: [command line](cli.md)."""


def errors() -> Iterator[str]:
    """Lines of the page."""
    yield from ("# Error codes", "", _API, "")
    yield "| code | meaning | what to do | HTTP | exit | exception of the Python client |"
    yield "|---|---|---|--:|--:|---|"
    for one in CODES:
        yield (
            f"| `{one.code}` | {one.meaning} | {one.what_to_do} | {one.http} | {one.exit_status} | `{one.exception}` |"
        )
    yield from ("", _PENDING, "", "## Of the Python client", "", _CLIENT, "")
    yield from ("| exception | `code` | meaning | what to do |", "|---|---|---|---|")
    for own in CLIENT_CODES:
        yield f"| `{own.exception}` | {own.code} | {own.meaning} | {own.what_to_do} |"
    yield from ("", "## Of handlers", "", _HANDLERS)
