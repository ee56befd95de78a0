"""Talking to the api through the Python client; its errors as one sentence."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import typer

from jobledger.cli.failure import CliError, Exit

if TYPE_CHECKING:  # the client costs most of a command's start, so it is imported when there is something to ask
    from jobledger.workers.client import AsyncClient, JobledgerError

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_SECONDS = 3.0
CALL_SECONDS = 10.0
#: A read model may be this far behind a submission of a moment ago.
SETTLE_SECONDS = 2.0

ApiUrl = Annotated[
    str | None,
    typer.Option("--api-url", envvar="JOBLEDGER_API_URL", help="Where it is.", show_default=DEFAULT_URL),
]


def call(url: str | None, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Run `work` with a client; CliError when the api can't be reached or refuses."""
    address = url or os.environ.get("JOBLEDGER_API_URL") or DEFAULT_URL
    _check_reachable(address)
    from jobledger.workers.client import AsyncClient  # noqa: PLC0415 - as above

    async def run() -> T:
        async with AsyncClient(address, timeout=CALL_SECONDS) as client:
            return await work(client)

    return asyncio.run(run())


def _check_reachable(url: str) -> None:
    """The client would go on trying for a while; a person wants to know at once."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise CliError(f"--api-url is '{url}': write it like {DEFAULT_URL}.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
    except UnicodeError as error:
        raise CliError(_not_reachable(url, "no host can have that name"), Exit.UNREACHABLE) from error
    except OSError as error:
        raise CliError(_not_reachable(url, error.strerror or str(error)), Exit.UNREACHABLE) from error
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise CliError(
            f"What listens at {url} does not speak HTTP, so it is not the api: give --api-url or JOBLEDGER_API_URL "
            f"the api's own port (`jobledger dev` prints it), not that of Kafka or Postgres.",
            Exit.UNREACHABLE,
        ) from error
    finally:
        connection.close()


def _not_reachable(url: str, reason: str) -> str:
    return (
        f"The api at {url} can't be reached ({reason.lower()}): is it running? `jobledger dev` starts one; "
        f"for another address give --api-url or JOBLEDGER_API_URL."
    )


def api_failure(error: BaseException) -> CliError | None:
    """What an error of the client means for the command line."""
    from jobledger.workers.client import BulkError, JobledgerError, OutcomeUnknown, Unavailable  # noqa: PLC0415

    if isinstance(error, OutcomeUnknown):
        return CliError(
            f"Nobody has answered yet, so it is not known whether it was done; ask with "
            f"`jobledger command show {error.command_id}`.",
            Exit.UNREACHABLE,
        )
    if isinstance(error, Unavailable):
        return CliError(_sentence(error), Exit.UNREACHABLE)
    if isinstance(error, JobledgerError) and error.code == "NOT_AN_API":
        return CliError(_sentence(error), Exit.UNREACHABLE)
    if isinstance(error, JobledgerError) and error.code.startswith("HTTP_4"):
        return CliError(
            f"{_sentence(error).rstrip('.')}; is it the api's own port that --api-url or JOBLEDGER_API_URL names?",
            Exit.UNREACHABLE,
        )
    if isinstance(error, JobledgerError) and not isinstance(error, BulkError):
        return CliError(_sentence(error), Exit.REFUSED)
    return None


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


async def ask(client: AsyncClient, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A query's `data`; tried again while the api is away for a moment."""
    return await client.retrying(lambda: client.execute(query, variables))


async def ask_job(client: AsyncClient, query: str, job_id: str, **more: Any) -> dict[str, Any]:
    """A query of `job`; waits a moment for one that was submitted just now. Raises CliError when there is none."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        job = (await ask(client, query, {"id": job_id, **more}))["job"]
        if job is not None:
            found: dict[str, Any] = job
            return found
        if time.monotonic() > deadline:
            raise CliError(f"There is no job {job_id}; `jobledger jobs list` shows those that there are.", Exit.REFUSED)
        await asyncio.sleep(0.2)
