"""`jobledger cluster`: which formats the partitions of a cell are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_rows, quiet_logs
from jobledger.cli.roles import settings_with

if TYPE_CHECKING:
    from jobledger.processors.cell_levels import PartitionLevel
    from jobledger.settings import Settings

WAIT_SECONDS = 20.0

app = typer.Typer(help="Formats of a cell's log, for upgrades.", no_args_is_help=True)


@app.command()
def status(output: ReportOutput = ReportFormat.TABLE) -> int:
    """Show the format level of each partition, and the newest that its owner reads."""
    quiet_logs()
    settings = settings_with()
    _print(output, _read(settings))
    return Exit.OK


@app.command()
def enable(
    version: Annotated[str, typer.Argument(help="Release whose formats are written from now on, such as 0.2.")],
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Enable the formats of a release, once every role runs it; then there is no way back to the release before."""
    quiet_logs()
    settings = settings_with()
    from jobledger.domain.levels import LEVELS, level_of  # noqa: PLC0415
    from jobledger.processors.cell_levels import enable as enable_level  # noqa: PLC0415
    from jobledger.processors.cell_levels import unready  # noqa: PLC0415

    level = level_of(version)
    if level is None:
        raise CliError(f"'{version}' is no release with formats of its own: expected {', '.join(LEVELS.values())}.")
    found = _read(settings)
    if behind := unready(found, level):
        raise CliError(
            f"The owners of partitions {', '.join(map(str, behind))} can't read the formats of {LEVELS[level]}: "
            "upgrade every scheduler first; nothing was enabled.",
            Exit.REFUSED,
        )
    if lower := [one.partition for one in found if one.level is not None and one.level > level]:
        raise CliError(
            f"Partitions {', '.join(map(str, lower))} are written in newer formats already; there is no way back.",
            Exit.REFUSED,
        )
    if any(one.level != level for one in found):
        found = enable_level(settings.kafka, settings.cell, settings.partitions, level, WAIT_SECONDS)
    _print(output, found)
    if waiting := [one.partition for one in found if (one.level or 0) < level]:
        raise CliError(
            f"Partitions {', '.join(map(str, waiting))} have not answered yet: is a scheduler running? "
            "`jobledger cluster status` shows when they have; what was set aside meanwhile needs another `enable`.",
            Exit.UNREACHABLE,
        )
    return Exit.OK


def _read(settings: Settings) -> list[PartitionLevel]:
    from jobledger.processors.cell_levels import read_levels  # noqa: PLC0415

    return read_levels(settings.kafka, settings.cell, settings.partitions)


def _print(output: ReportFormat, found: list[PartitionLevel]) -> None:
    from jobledger.domain.levels import LEVELS  # noqa: PLC0415

    def name(level: int | None) -> str | None:
        return None if level is None else LEVELS.get(level, str(level))

    if output is ReportFormat.JSON:
        levels = [{"partition": one.partition, "level": name(one.level), "reads": name(one.reads)} for one in found]
        print_json({"reads": list(LEVELS.values()), "partitions": levels})
    else:
        rows = [(one.partition, name(one.level), name(one.reads)) for one in found]
        print_rows(("PARTITION", "WRITTEN IN", "OWNER READS"), rows, "The cell has no partitions.")


def register(program: typer.Typer) -> None:
    """Add `cluster` to the program."""
    program.add_typer(app, name="cluster", rich_help_panel="Operations")
