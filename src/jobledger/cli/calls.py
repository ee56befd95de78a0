"""Talking to the api through the Python client."""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import typer

from jobledger.cli.exits import CliError, Exit

if TYPE_CHECKING:  # the client costs most of a command's start, so it is imported when there is something to ask
    from jobledger.client import AsyncClient

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
    import stamina  # noqa: PLC0415 - as above

    from jobledger.client import AsyncClient  # noqa: PLC0415 - as above

    # What the client tries again is no line among the answers, where stamina's lines would go by themselves.
    stamina.instrumentation.set_on_retry_hooks([])

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
