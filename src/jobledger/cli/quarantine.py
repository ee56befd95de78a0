"""`jobledger quarantine`: what could not be read or decided; look at it, send it again, or give it up."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import Format, Output, moment, print_fields, print_rows, print_thing, print_things, say

if TYPE_CHECKING:
    from jobledger.client import AsyncClient

PAGE = 100

app = typer.Typer(help="Look at what could not be read or decided; retry or discard it.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the thing set aside; `jobledger quarantine list` shows them.")]
Note = Annotated[str, typer.Option(help="Why, for those who look at it later.")]


@app.command("list")
def list_quarantine(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most, over as many pages.")] = 20,
    all_of_them: Annotated[bool, typer.Option("--all", help="Those that were retried or discarded too.")] = False,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """List what was set aside and is still open, the newest first."""

    async def work(client: AsyncClient) -> tuple[list[dict[str, Any]], bool]:
        items: list[dict[str, Any]] = []
        after, more = None, True
        while more and len(items) < limit:
            asked = {"first": min(PAGE, limit - len(items)), "after": after, "resolved": all_of_them}
            page = (await ask(client, documents.QUARANTINE, asked))["quarantine"]
            items += [edge["node"] for edge in page["edges"]]
            after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        return items, more

    items, more = call(api_url, work)
    print_things(output, "id", items, lambda: _print_table(items))
    if more:
        say(f"There are more: --limit {2 * limit}")
    return Exit.OK


def _print_table(items: list[dict[str, Any]]) -> None:
    print_rows(
        ("ID", "STATUS", "AT", "WHERE", "STREAM", "BYTES", "REASON"),
        [
            (i["id"], i["status"], moment(i["at"]), _where(i), i["stream"], i["size"], _short(i["reason"]))
            for i in items
        ],
        "Nothing is in quarantine.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def _where(item: dict[str, Any]) -> str:
    place = f"{item['topic']}/{item['partition']}"
    return place if item["offset"] is None else f"{place} @{item['offset']}.{item['index']}"


@app.command("show")
def show_quarantined(
    identity: Id,
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes themselves, and nothing else.")] = False,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Show one thing that was set aside, whole."""
    item = call(api_url, lambda client: ask(client, documents.QUARANTINED, {"id": identity}))["quarantined"]
    if item is None:
        raise CliError(
            f"Nothing with id '{identity}' is in quarantine; `jobledger quarantine list --all` shows what there is.",
            Exit.REFUSED,
        )
    if raw:
        if item["data"] is None:
            raise CliError(f"Not all of '{identity}' has arrived yet; try again later.", Exit.UNREACHABLE)
        sys.stdout.buffer.write(base64.b64decode(item["data"]))
        sys.stdout.flush()
        return Exit.OK
    print_thing(output, item["id"], item, lambda: _print_item(item))
    return Exit.OK


def _print_item(item: dict[str, Any]) -> None:
    print_fields(
        {
            "id": item["id"],
            "status": item["status"],
            "at": moment(item["at"]),
            "reason": item["reason"],
            "where": _where(item),
            "command": item["commandId"],
            "stream": item["stream"],
            "bytes": item["size"],
            "resolved": moment(item["resolvedAt"]),
            "by": item["resolvedBy"],
            "note": item["note"],
            "text": item["text"],
        }
    )


@app.command("retry")
def retry_quarantined(identity: Id, note: Note = "", output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Send it to its owner again, as after an upgrade that can decide it; what fails again is set aside anew."""
    return _resolve("retryQuarantined", identity, note, output, api_url)


@app.command("discard")
def discard_quarantined(identity: Id, note: Note = "", output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Give it up; it stays in the log."""
    return _resolve("discardQuarantined", identity, note, output, api_url)


def _resolve(mutation: str, identity: str, note: str, output: Format, api_url: str | None) -> int:
    document = documents.RESOLVE_QUARANTINED.replace("MUTATION", mutation)

    async def work(client: AsyncClient) -> dict[str, Any]:
        from jobledger.client.errors import error_from  # noqa: PLC0415 - the client is imported when needed

        answer = (await client.execute(document, {"id": identity, "note": note}))[mutation]
        if answer["__typename"] != "QuarantineResolved":
            raise error_from(answer)
        item: dict[str, Any] = answer["item"]
        return item

    item = call(api_url, work)
    print_thing(
        output,
        item["id"],
        item,
        lambda: print_fields({"id": item["id"], "status": item["status"], "command": item["commandId"]}),
    )
    return Exit.OK


def register(program: typer.Typer) -> None:
    """Add `quarantine` to the program."""
    program.add_typer(app, name="quarantine", rich_help_panel="Operations")
