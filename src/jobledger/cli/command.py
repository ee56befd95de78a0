"""`jobledger command`: what became of a command."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.exits import Exit
from jobledger.cli.output import Format, Output, moment, print_fields, print_thing, say

app = typer.Typer(help="Ask what became of a command.", no_args_is_help=True)


@app.command("show")
def show_command(
    command_id: Annotated[str, typer.Argument(help="Id of the command.")],
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Show what became of a command: ACCEPTED, REJECTED, or PENDING (nobody knows yet, exit status 4)."""
    command = call(api_url, lambda client: ask(client, documents.COMMAND, {"id": command_id}))["command"]
    print_thing(output, command["id"], command, lambda: _print_command(command))
    if command["status"] != "PENDING":
        return Exit.OK
    say("No outcome is known: it is still to be decided, was never sent, or is longer ago than outcomes are kept.")
    return Exit.UNREACHABLE


def _print_command(command: dict[str, Any]) -> None:
    error = command["error"] or {}
    print_fields(
        {
            "command": command["id"],
            "status": command["status"],
            "job": command["jobId"],
            "at": moment(command["at"]),
            "error": f"{error['code']}: {error['message']}" if error else None,
        }
    )


def register(program: typer.Typer) -> None:
    """Add `command` to the program."""
    program.add_typer(app, name="command", rich_help_panel="Jobs")
