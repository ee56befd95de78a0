"""`jobledger db`: the database of the read models."""

from __future__ import annotations

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line, quiet_logs
from jobledger.cli.roles import settings_with

app = typer.Typer(help="The database of the read models.", no_args_is_help=True)


@app.command()
def migrate(output: ReportOutput = ReportFormat.TABLE) -> int:
    """Bring the schema of the read models to this release; projectors do so themselves at their start."""
    settings = settings_with()
    quiet_logs()
    from jobledger.projections.migrate import migrate as bring_up  # noqa: PLC0415

    number = bring_up(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    if output is ReportFormat.JSON:
        print_json({"schema": settings.postgres_schema, "migration": number})
    else:
        print_line(f"Schema '{settings.postgres_schema}' is at migration {number}, the last one of this release.")
    return Exit.OK


def register(program: typer.Typer) -> None:
    """Add `db` to the program."""
    program.add_typer(app, name="db", rich_help_panel="Operations")
