"""`jobledger keys`: API keys."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_fields, print_json

app = typer.Typer(help="Make API keys.", no_args_is_help=True)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who is to have it; stands in the history of what he changes.")],
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Make a key, shown here and nowhere else, and its entry for JOBLEDGER_API_KEYS of every api."""
    from jobledger.graphql.api_keys import digest_of, new_key  # noqa: PLC0415

    if not _NAME.fullmatch(name):
        raise CliError(f"'{name:.80}' is no name for a key: letters, digits, '.', '_' and '-', 63 of them at most.")
    key = new_key()
    entry = f"{name}:{digest_of(key)}"
    if output is ReportFormat.JSON:
        print_json({"name": name, "key": key, "entry": entry})
    else:
        print_fields({"name": name, "key": key, "entry": entry})
    return Exit.OK


def register(program: typer.Typer) -> None:
    """Add `keys` to the program."""
    program.add_typer(app, name="keys", rich_help_panel="Operations")
