"""Errors of the Python client as the one sentence that a command ends with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobledger.cli.exits import CliError, Exit

if TYPE_CHECKING:  # the client costs most of a command's start
    from jobledger.client import JobledgerError


def api_failure(error: BaseException) -> CliError | None:
    """What an error of the client means for the command line."""
    from jobledger.client import BulkError, JobledgerError, OutcomeUnknown  # noqa: PLC0415
    from jobledger.schemas.error_codes import EXIT_STATUS  # noqa: PLC0415

    if not isinstance(error, JobledgerError) or isinstance(error, BulkError):
        return None
    status = Exit(EXIT_STATUS.get(error.code, Exit.REFUSED))
    if isinstance(error, OutcomeUnknown):
        return CliError(
            f"Nobody has answered yet, so it is not known whether it was done; ask with "
            f"`jobledger command show {error.command_id}`.",
            status,
        )
    return CliError(_sentence(error), status)


_ATTEMPTS = r"--max-attempts is \1, but must be \2"
_OTHER_WORDS = (
    (re.compile(r"^retry is (.*), but must be a number of attempts, (.*), or a RetryPolicy"), _ATTEMPTS),
    (re.compile(r"\ba decorated function or its name\b"), "a name"),
    (re.compile(r"^(priority|payload|queue|timeout|at) "), r"--\1 "),
    (re.compile(r"'job:[^:']+:([0-9a-f-]+)'"), r"\1"),
    (re.compile(r"\bcreateQueue\b"), "`jobledger queues create`"),
    (re.compile(r"\bupdateQueue\b"), "`jobledger queues update`"),
    (re.compile(r"\bpayloadText\b"), "--payload"),
    (re.compile(r"\bidempotencyKey\b"), "--idempotency-key"),
    (re.compile(r"\bretry\.maxAttempts\b"), "--max-attempts"),
)
"""What the api's sentences call by the names of its schema, in the words of this program."""


def _sentence(error: JobledgerError) -> str:
    """The api's sentence; it names the remedy already."""
    text = error.message.strip()
    for pattern, words in _OTHER_WORDS:
        text = pattern.sub(words, text)
    return text
