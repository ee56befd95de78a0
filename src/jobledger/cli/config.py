"""`jobledger config`: the settings."""

from __future__ import annotations

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_rows
from jobledger.cli.roles import settings_with

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.command("show")
def show_config(output: ReportOutput = ReportFormat.TABLE) -> int:
    """Show every setting, its variable and where its value is from; secrets are hidden."""
    from jobledger.cli.configuration import entries  # noqa: PLC0415

    found = entries(settings_with())
    if output is ReportFormat.JSON:
        print_json({entry.variable: {"value": entry.value, "source": entry.source} for entry in found})
    else:
        rows = [(entry.variable, entry.value, entry.source) for entry in found]
        print_rows(("VARIABLE", "VALUE", "SOURCE"), rows, "No settings.")
    return Exit.OK


def register(program: typer.Typer) -> None:
    """Add `config` to the program."""
    program.add_typer(app, name="config", rich_help_panel="Operations")
