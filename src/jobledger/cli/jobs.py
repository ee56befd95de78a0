"""`jobledger jobs`: look at jobs, follow them, stop them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, ask_job, call
from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import (
    Format,
    Output,
    cell,
    moment,
    print_each,
    print_fields,
    print_json,
    print_line,
    print_rows,
    print_thing,
    print_things,
    say,
)
from jobledger.cli.submit import parse_tags
from jobledger.domain.job.state import TERMINAL, JobStatus

if TYPE_CHECKING:
    from jobledger.client import AsyncClient, JobEvent

#: What one page of the api holds.
PAGE = 100

app = typer.Typer(help="Look at jobs, follow them, stop them.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of the job.")]


@app.command("list")
def list_jobs(  # noqa: PLR0913 - the filters, each by its name
    *,
    status: Annotated[list[JobStatus] | None, typer.Option(case_sensitive=False, help="May be given again.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    handler: Annotated[str | None, typer.Option(help="Only of this handler.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; all that are given must hold.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most, over as many pages.")] = 20,
    after: Annotated[str | None, typer.Option(help="Go on after this cursor.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """List jobs, the newest first."""
    wanted: dict[str, Any] = {}
    if status:
        wanted["status"] = [str(one) for one in status]
    if queue is not None:
        wanted["queue"] = queue
    if handler is not None:
        wanted["handler"] = handler
    if tag:
        wanted["tags"] = [{"name": name, "value": value} for name, value in parse_tags(tag).items()]
    variables = {"filter": wanted, "after": after, "order": "OLDEST" if oldest else "NEWEST"}

    async def work(client: AsyncClient) -> dict[str, Any]:
        listed: dict[str, Any] = {"jobs": []}
        async for page in _pages(client, variables, limit):
            rows = [edge["node"] for edge in page["edges"]]
            listed["cursor"] = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
            listed["position"] = page["position"]
            if output in (Format.JSONL, Format.ID):
                print_each(output, "id", rows)  # at once: however many there are, a page is what is held
            else:
                listed["jobs"] += rows
        return listed

    listed = call(api_url, work)
    if output is Format.JSON:
        print_json(listed)
        return Exit.OK
    if output is Format.TABLE:
        _print_table(listed["jobs"])
    if listed["cursor"]:
        say(f"There are more: --limit {2 * limit}, or --after {listed['cursor']}")
    return Exit.OK


async def _pages(client: AsyncClient, variables: dict[str, Any], limit: int) -> AsyncIterator[dict[str, Any]]:
    """Pages of `jobs` until there are no more, or `limit` jobs have come."""
    after = variables["after"]
    while limit > 0:
        page = (await ask(client, documents.JOBS, {**variables, "after": after, "first": min(limit, PAGE)}))["jobs"]
        yield page
        limit -= len(page["edges"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return


def _print_table(jobs: list[dict[str, Any]]) -> None:
    print_rows(
        ("ID", "STATUS", "HANDLER", "QUEUE", "PRIORITY", "ATTEMPT", "SUBMITTED", "WORKER", "ERROR"),
        [
            (
                job["id"],
                job["status"],
                job["handler"],
                job["queueName"],
                job["priority"],
                job["attempt"],
                moment(job["submittedAt"]),
                job["worker"],
                job["errorType"],
            )
            for job in jobs
        ],
        "No jobs.",
    )


@app.command()
def show(job_id: JobId, output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Show one job: all of it, and why it is where it is."""
    job = call(api_url, lambda client: ask_job(client, documents.JOB, job_id))
    print_thing(output, job["id"], job, lambda: _print_job(job))
    return Exit.OK


def _print_job(job: dict[str, Any]) -> None:
    print_fields(
        {
            "job": job["id"],
            "status": job["status"],
            "why": job["why"],
            "handler": job["handler"],
            "queue": job["queueName"],
            "priority": job["priority"],
            "attempt": f"{job['attempt']} of {job['retry']['maxAttempts']}",
            "worker": job["worker"],
            "tags": ", ".join(f"{tag['name']}={tag['value']}" for tag in job["tags"]),
            **{
                name: moment(job[field])
                for name, field in (
                    ("submitted", "submittedAt"),
                    ("due", "dueAt"),
                    ("started", "startedAt"),
                    ("retry at", "retryAt"),
                    ("cancel asked", "cancelRequestedAt"),
                    ("ended", "endedAt"),
                )
            },
            "time-out": f"{job['timeoutSeconds']:g} s" if job["timeoutSeconds"] else None,
            "payload": job["payload"],
            "result": job["result"],
            "error": _error(job["errorType"], job["error"]),
            "given up": job["deadLetterCause"],
            "cancelled": job["cancelReason"],
            "parent": job["parentId"],
        }
    )
    _print_attempts(job["attempts"])
    _print_tracebacks(job["attempts"])


def _error(kind: str | None, error: Any) -> str | None:
    if kind is None and error is None:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return ": ".join(str(part) for part in (kind, message) if part)


def _print_attempts(attempts: list[dict[str, Any]]) -> None:
    if not attempts:
        return
    print_line("")
    print_rows(
        ("ATTEMPT", "HAND-OUT", "CAUSE", "STATUS", "WORKER", "STARTED", "ENDED", "ERROR"),
        [
            (
                one["attempt"],
                one["assignment"],
                one["cause"],
                one["status"],
                one["worker"],
                moment(one["startedAt"]),
                moment(one["endedAt"]),
                _error(one["errorType"], one["error"]),
            )
            for one in attempts
        ],
        "",
    )


def _print_tracebacks(attempts: list[dict[str, Any]]) -> None:
    """Where each failed attempt failed; attempts one after the other with the same traceback show it once."""
    last = None
    for one in attempts:
        error = one["error"]
        frames = error.get("traceback") if isinstance(error, dict) else None
        if not frames or frames == last:
            continue
        last = frames
        print_line("")
        print_line(f"Traceback of attempt {one['attempt']}:")
        print_line(f"{frames.rstrip()}\n{_error(one['errorType'], error)}")


@app.command()
def history(job_id: JobId, output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Show every event of a job, the first one first."""

    async def work(client: AsyncClient) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = (await ask_job(client, documents.HISTORY, job_id, after=after))["events"]
            events += [edge["node"] for edge in page["edges"]]
            if not page["pageInfo"]["hasNextPage"]:
                return events
            after = page["pageInfo"]["endCursor"]

    events = [{"id": f"{one['partition']}-{one['seq']}", **one} for one in call(api_url, work)]
    print_things(output, "id", events, lambda: _print_history(events))
    return Exit.OK


def _print_history(events: list[dict[str, Any]]) -> None:
    print_rows(
        ("VERSION", "AT", "TYPE", "STATUS", "BY", "DETAILS"),
        [
            (
                event["version"],
                moment(event["at"]),
                short_type(event["type"]),
                event["status"],
                " ".join(filter(None, (event["actor"]["kind"], event["actor"]["id"]))),
                _details(event["data"]),
            )
            for event in events
        ],
        "No events yet.",
    )


def short_type(name: str) -> str:
    """`job.submitted` for `io.jobledger.job.submitted.v1`."""
    return name.removeprefix("io.jobledger.").rpartition(".v")[0] or name


def _details(data: dict[str, Any]) -> str:
    """The fields of an event that a person looks for first; --output json has all."""
    names = ("attempt", "assignment", "worker", "cause", "error_type", "retry_at_ms", "reason", "handler", "queue")
    return " ".join(f"{name}={_plain(data[name])}" for name in names if data.get(name) not in (None, ""))


def _plain(value: Any) -> Any:
    """Text of users comes with the name of its encoding."""
    if isinstance(value, dict) and value.get("encoding") == "json":
        return json.loads(value["data"])
    return value


@app.command()
def watch(job_id: JobId, output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Follow a job live, from its first event to its last; exit status 1 if it does not succeed."""

    async def work(client: AsyncClient) -> int:
        await ask_job(client, documents.STATUS, job_id)
        async with aclosing(client.job(job_id).events()) as events:
            async for event in events:
                _print_event(event, output)
                if event.status in TERMINAL:
                    if output is Format.ID:
                        print_line(job_id)
                    return Exit.OK if event.status is JobStatus.SUCCEEDED else Exit.NO
        raise CliError(f"The events of job {job_id} ended before the job did; try again.", Exit.UNREACHABLE)

    return call(api_url, work)


def _print_event(event: JobEvent, output: Format) -> None:
    if output is Format.ID:  # the job's, once it has ended
        return
    if output in (Format.JSON, Format.JSONL):
        shown = {
            "type": event.type,
            "jobId": event.job_id,
            "version": event.version,
            "at": event.at.isoformat(),
            "status": event.status,
            "data": event.data,
            "position": event.position,
        }
        print_json(shown, one_line=True)
        return
    status = str(event.status or "")
    at = event.at.strftime("%H:%M:%S.%f")[:-3]
    print_line(f"{at}  {short_type(event.type):<22}  {status:<13}  {cell(_details(event.data))}".rstrip())


@app.command()
def cancel(
    job_id: JobId,
    reason: Annotated[str | None, typer.Option(help="Kept with the job.")] = None,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Stop a job: at once while it waits; a running handler is asked to stop."""
    status = call(api_url, lambda client: client.cancel(job_id, reason))
    _print_status(job_id, status, output)
    if output is Format.TABLE and status is JobStatus.CANCELLING:
        say(f"Its queue or worker has been asked to stop it; `jobledger jobs watch {job_id}` shows when it has.")
    return Exit.OK


@app.command()
def redrive(
    job_id: JobId,
    reason: Annotated[str | None, typer.Option(help="Kept in the job's history.")] = None,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Run a dead-lettered job again: same id, all attempts of its policy, from its last checkpoint."""
    _print_status(job_id, call(api_url, lambda client: client.redrive(job_id, reason)), output)
    return Exit.OK


@app.command()
def discard(
    job_id: JobId,
    reason: Annotated[str | None, typer.Option(help="Kept in the job's history.")] = None,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Close a dead-lettered job: nothing more is to be done about it."""
    _print_status(job_id, call(api_url, lambda client: client.discard(job_id, reason)), output)
    return Exit.OK


def _print_status(job_id: str, status: JobStatus | None, output: Format) -> None:
    document = {"jobId": job_id, "status": status}
    print_thing(output, job_id, document, lambda: print_fields({"job": job_id, "status": str(status or "")}))


def register(program: typer.Typer) -> None:
    """Add `jobs` to the program."""
    program.add_typer(app, name="jobs", rich_help_panel="Jobs")
