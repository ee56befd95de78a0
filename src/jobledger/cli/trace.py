"""`jobledger trace`: what was recorded of a request and the work that it caused, as a waterfall."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, ask_job, call
from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line

if TYPE_CHECKING:
    from jobledger.client import AsyncClient

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
#: Spans are sent in batches: what has just happened is on its way for so long.
ON_ITS_WAY_SECONDS = 3.0
BAR_WIDTH = 32
NAME_WIDTH = 30


def show_trace(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A trace id (32 hex digits), or the id of a job.")],
    output: ReportOutput = ReportFormat.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Show a trace, or the traces of a job, kept by the api of `jobledger dev`: who did what, when, how long."""
    traces = call(api_url, lambda client: _find(client, identity))
    if output is ReportFormat.JSON:
        print_json(traces)
    else:
        for trace in traces:
            print_trace(trace)
    return Exit.OK


async def _find(client: AsyncClient, identity: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + ON_ITS_WAY_SECONDS
    while True:
        ids = [identity] if _TRACE_ID.fullmatch(identity) else await _traces_of_job(client, identity)
        answers = [(await ask(client, documents.TRACE, {"id": one}))["trace"] for one in ids]
        traces = [one for one in answers if one["__typename"] == "Trace"]
        if traces:
            return traces
        if not answers:
            raise CliError(f"Job {identity} was submitted without a trace.", Exit.REFUSED)
        late = answers[0]["code"] != "NOT_FOUND" or time.monotonic() > deadline
        if late:
            raise CliError(answers[0]["message"], Exit.REFUSED)
        await asyncio.sleep(0.3)


async def _traces_of_job(client: AsyncClient, job_id: str) -> list[str]:
    """Those that its events name: the trace of its submission first, then those of later attempts."""
    job = await ask_job(client, documents.TRACES_OF_JOB, job_id)
    named = [job["traceparent"], *(edge["node"]["traceparent"] for edge in job["events"]["edges"])]
    return list(dict.fromkeys(one[3:35] for one in named if one))


def print_trace(trace: dict[str, Any]) -> None:
    """One trace: a line for each span, below the one that caused it."""
    spans = trace["spans"]
    starts = {span["id"]: _ms(span) for span in spans}
    first = min(starts.values())
    length = max(1.0, max(starts[span["id"]] + span["durationMs"] for span in spans) - first)
    print_line(f"trace {trace['id']}  {length:,.0f} ms  {_reasons(spans)}")
    known = {span["id"] for span in spans}
    for span in (one for one in spans if one["parentId"] not in known):
        _print_span(span, spans, 0, first, length)


def _print_span(span: dict[str, Any], spans: list[dict[str, Any]], depth: int, first: float, length: float) -> None:
    begin = min(BAR_WIDTH - 1, round((_ms(span) - first) / length * BAR_WIDTH))
    width = max(1, min(BAR_WIDTH - begin, round(span["durationMs"] / length * BAR_WIDTH)))
    bar = ("·" * begin + "█" * width).ljust(BAR_WIDTH, "·")
    name = f"{'  ' * depth}{span['name']}".ljust(NAME_WIDTH)
    mark = " failed" if span["failed"] else ""
    links = f" from {', '.join(span['links'])}" if span["links"] else ""
    print_line(f"{name} {bar} {span['durationMs']:>9,.1f} ms  {span['service']}{mark}  {_told(span)}{links}")
    for child in (one for one in spans if one["parentId"] == span["id"]):
        _print_span(child, spans, depth + 1, first, length)


def _told(span: dict[str, Any]) -> str:
    left_out = {"sampling.reason", "job_id", "execution_id", "tenant_id"}
    return " ".join(f"{key}={value}" for key, value in span["attributes"].items() if key not in left_out)


def _reasons(spans: list[dict[str, Any]]) -> str:
    reasons = {span["attributes"].get("sampling.reason") for span in spans} - {None}
    return f"kept as {', '.join(sorted(reasons))}" if reasons else ""


def _ms(span: dict[str, Any]) -> float:
    return float(span["startMs"])


def register(program: typer.Typer) -> None:
    """Add `trace` to the program."""
    program.command("trace", rich_help_panel="Jobs")(show_trace)
