"""`jobledger submit`: one job."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, call
from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import Format, Output, cell, print_fields, print_thing, say
from jobledger.domain.job.state import JobStatus
from jobledger.workers.durations import seconds_of

if TYPE_CHECKING:
    from jobledger.client import AsyncClient, AsyncJob, JobView

#: A courtesy may take this long, and no longer.
COURTESY_SECONDS = 1.0


def submit(  # noqa: PLR0913 - the options of a job, each by its name
    name: Annotated[str, typer.Argument(help="Name of the handler.")],
    *,
    payload: Annotated[str, typer.Option(help="JSON that the handler gets; `-` reads it from standard input.")] = "{}",
    at: Annotated[str | None, typer.Option(help="Not before: RFC 3339 with a zone, 2026-01-31T09:30:00Z.")] = None,
    in_: Annotated[str | None, typer.Option("--in", help="Not before now plus this: 30s, 10m, 1h30m, 2d.")] = None,
    queue: Annotated[str, typer.Option(help="Queue that it goes to.")] = "default",
    priority: Annotated[int, typer.Option(help="1 (first) to 5 (last).")] = 3,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be given again.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again is the same job.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts before it is given up (default 3).")] = None,
    timeout: Annotated[str | None, typer.Option(help="Longest run of one attempt: 30s, 5m.")] = None,
    expected_duration: Annotated[
        str | None, typer.Option(help="From due to its end, for service levels: 20m, 2h.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; status 1 if it did not succeed.")] = False,
    wait_timeout: Annotated[str | None, typer.Option(help="With --wait: give up waiting after this.")] = None,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Submit a job."""
    options: dict[str, Any] = {
        "payload": parse_payload(payload),
        "at": parse_time("--at", at),
        "in_": _length("--in", in_),
        "queue": queue,
        "priority": priority,
        "tags": parse_tags(tag or []),
        "idempotency_key": idempotency_key,
        "retry": max_attempts,
        "timeout": _length("--timeout", timeout),
        "expected_duration": _length("--expected-duration", expected_duration),
    }
    if at is not None and in_ is not None:
        raise CliError("--at and --in exclude each other; give one of them.")
    patience = _length("--wait-timeout", wait_timeout)

    async def work(client: AsyncClient) -> int:
        job = await client.submit(name, **options)
        await _say_if_unserved(client, name, queue)
        if wait:
            return await _wait(job, patience, output)
        document = {"jobId": job.id, "duplicate": job.duplicate, "position": job.position}
        print_thing(output, job.id, document, lambda: _print_submitted(job))
        return Exit.OK

    return call(api_url, work)


def _print_submitted(job: AsyncJob[Any]) -> None:
    print_fields({"job": job.id, "duplicate": "yes, this job was submitted before" if job.duplicate else None})
    say(f"`jobledger jobs show {job.id}` tells what becomes of it.")


async def _say_if_unserved(client: AsyncClient, handler: str, queue: str) -> None:
    """A misspelt name would wait for ever in silence; without an answer at once nothing is said."""
    from jobledger.client import JobledgerError  # noqa: PLC0415

    try:
        async with asyncio.timeout(COURTESY_SECONDS):
            workers = (await client.execute(documents.SERVED, {"queue": queue}))["workers"]
    except (JobledgerError, TimeoutError):
        return
    served = sorted({name for worker in workers if not worker["lost"] for name in worker["handlers"]})
    if handler in served:
        return
    known = f"served there: {', '.join(served[:10])}" if served else "no worker serves that queue"
    say(f"No worker serves handler '{handler}' on queue '{queue}' now, so the job waits until one does ({known}).")


async def _wait(job: AsyncJob[Any], patience: float | None, output: Format) -> int:
    if output is Format.TABLE:
        say(f"Job {job.id} is submitted; waiting for its end.")
    try:
        view = await job.wait(patience)
    except TimeoutError as error:
        raise CliError(await _not_ended(job, patience or 0.0), Exit.UNREACHABLE) from error
    end = _end(view)
    document = {"jobId": job.id, "duplicate": job.duplicate, "position": job.position, **end}
    print_thing(output, job.id, document, lambda: print_fields({"job": job.id, "attempts": view.attempt, **end}))
    return Exit.OK if view.status is JobStatus.SUCCEEDED else Exit.NO


async def _not_ended(job: AsyncJob[Any], patience: float) -> str:
    from jobledger.client import JobledgerError  # noqa: PLC0415

    try:
        async with asyncio.timeout(COURTESY_SECONDS):
            now = f" and is {await job.status()}"
    except (JobledgerError, TimeoutError):
        now = ""
    return f"Job {job.id} has not ended after {patience:g} s{now}; `jobledger jobs show {job.id}` tells why."


def _end(view: JobView) -> dict[str, Any]:
    return {
        "status": str(view.status),
        "result": view.result,
        "errorType": view.error_type or None,
        "error": view.error or None,
        "cancelReason": view.cancel_reason or None,
    }


def parse_payload(text: str) -> Any:
    """The JSON of `--payload`; CliError when it is none."""
    place = "--payload" if text != "-" else "--payload - (standard input)"
    try:
        source = text if text != "-" else sys.stdin.read()
        return json.loads(source, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise CliError(f"{place} is not UTF-8 (byte {error.start}); JSON is written in UTF-8.") from error
    except RecursionError as error:
        raise CliError(f"{place} is nested too deeply; make its arrays and objects flatter.") from error
    except ValueError as error:
        raise CliError(
            f"{place} is not JSON ({error}): got {cell(source) if source.strip() else 'nothing'}; "
            "in a shell put it in single quotes, "
            f"""--payload '{{"to": "a@b"}}'."""
        ) from error


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large for a JSON number")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def parse_time(option: str, text: str | None) -> datetime | None:
    """An instant with a zone; CliError when it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(f"{option} is '{text}', which is no time: write it like 2026-01-31T09:30:00Z.") from error
    if moment.tzinfo is None:
        raise CliError(f"{option} is '{text}', which has no zone: add Z or an offset, such as {text}Z.")
    return moment


def parse_tags(items: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE pairs; CliError when one is none."""
    tags: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise CliError(f"--tag is '{item}': write it as NAME=VALUE, such as --tag team=billing.")
        if name in tags:
            raise CliError(f"--tag names '{name}' twice; give each name once.")
        tags[name] = value
    return tags


def _length(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return seconds_of(text)
    except ValueError as error:
        raise CliError(f"{option}: {error}") from error


def register(app: typer.Typer) -> None:
    """Add `submit` to the program."""
    app.command(rich_help_panel="Jobs")(submit)
