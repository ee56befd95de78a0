"""`jobledger schema`: the exported schemas of the public contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line

app = typer.Typer(help="The exported schemas of the public contract.", no_args_is_help=True)


Directory = Annotated[Path | None, typer.Option(help="Where the JSON Schema files are (default: in the package).")]


@app.command("export")
def export_schemas(directory: Directory = None) -> int:
    """Write the JSON Schema files and the GraphQL schema."""
    from jobledger.graphql.export import default_path, export_schema  # noqa: PLC0415
    from jobledger.schemas.export import DEFAULT_DIRECTORY, documents, export  # noqa: PLC0415

    target = directory or DEFAULT_DIRECTORY
    export(target)
    sdl = default_path() if directory is None else directory / default_path().name
    sdl.write_text(export_schema(), encoding="utf-8")
    print_line(f"{len(documents())} JSON files in {target}, and {sdl}.")
    return Exit.OK


@app.command("check")
def check_schemas(directory: Directory = None, output: ReportOutput = ReportFormat.TABLE) -> int:
    """Compare the exported files with the code; exit status 1 if one differs."""
    from jobledger.graphql.export import default_path, export_schema  # noqa: PLC0415
    from jobledger.schemas.export import DEFAULT_DIRECTORY  # noqa: PLC0415
    from jobledger.schemas.export import check as differences_of  # noqa: PLC0415

    if directory is not None and not directory.is_dir():
        raise CliError(f"--directory is {directory}, which is no directory: name the one with the exported files.")
    differences = differences_of(directory or DEFAULT_DIRECTORY)
    sdl = default_path() if directory is None else directory / default_path().name
    if not sdl.exists() or sdl.read_text(encoding="utf-8") != export_schema():
        differences.append(f"{sdl.name} differs from the code; run `jobledger schema export` and look at the change.")
    if output is ReportFormat.JSON:
        print_json({"ok": not differences, "differences": differences})
    for difference in differences if output is ReportFormat.TABLE else []:
        print_line(difference)
    if output is ReportFormat.TABLE and not differences:
        print_line("The exported schemas are those of the code.")
    return Exit.NO if differences else Exit.OK


def register(program: typer.Typer) -> None:
    """Add `schema` to the program."""
    program.add_typer(app, name="schema", rich_help_panel="Operations")
