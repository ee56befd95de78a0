"""`jobledger projection`: the read models made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line, quiet_logs, say
from jobledger.cli.roles import settings_with

app = typer.Typer(help="The read models.", no_args_is_help=True)


@app.command()
def rebuild(
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Keep the replaced schema.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Switch although the live rows are not what the log says.")
    ] = False,
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Make the read models anew from the log beside the live ones, compare, then switch in one transaction.

    Exit status 1 if rows differ and --accept-differences is not given: then the live ones stay.
    """
    settings = settings_with()
    from jobledger.projections.rebuild import Progress, RebuildConfig  # noqa: PLC0415
    from jobledger.projections.rebuild import rebuild as make_anew  # noqa: PLC0415

    def report(progress: Progress) -> None:
        if output is ReportFormat.TABLE:
            say(f"{progress.step}: {progress.events} of {progress.of} events")

    quiet_logs()
    config = RebuildConfig(
        kafka=settings.kafka,
        cell=settings.cell,
        dsn=settings.postgres_dsn.get_secret_value(),
        schema=settings.postgres_schema,
        keep_old=keep_old,
        accept_differences=accept_differences,
    )
    outcome = make_anew(config, report)
    differences = [str(difference) for difference in outcome.differences]
    if output is ReportFormat.JSON:
        document = {
            "switched": outcome.switched,
            "events": outcome.events,
            "differences": differences,
            "oldSchema": outcome.old_schema,
        }
        print_json(document)
        return Exit.OK if outcome.switched else Exit.NO
    for difference in differences:
        print_line(difference)
    if outcome.switched:
        print_line(f"The read models are made anew from {outcome.events} events and in use.")
        return Exit.OK
    print_line("The live read models stay in use; --accept-differences puts the new ones in their place.")
    return Exit.NO


def register(program: typer.Typer) -> None:
    """Add `projection` to the program."""
    program.add_typer(app, name="projection", rich_help_panel="Operations")
