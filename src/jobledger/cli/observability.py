"""`jobledger observability`: rules, alerts, dashboards and runbooks for the servers that watch a cell."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line

#: Where the rules say that their runbooks are.
RUNBOOKS_URL = "https://jobledger.io/runbooks/"
#: Of the folder `deploy`, what builds Jobledger itself.
NOT_EXPORTED = ("images",)

app = typer.Typer(
    help="Rules, alerts, dashboards and runbooks for the servers that watch a cell.", no_args_is_help=True
)


@app.command("export")
def export_files(
    directory: Annotated[Path, typer.Argument(help="Where to; files of the same names there are replaced.")],
    runbooks_url: Annotated[
        str, typer.Option(help="Where your people read the runbooks, which alerts link to.")
    ] = RUNBOOKS_URL,
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Write the rules of Prometheus, the escalation of Alertmanager, dashboards and runbooks of this release."""
    if directory.exists() and not directory.is_dir():
        raise CliError(f"DIRECTORY is {directory}, which is no directory.")
    with resources.as_file(resources.files("jobledger") / "deploy") as source:
        folders = sorted(one for one in source.iterdir() if one.is_dir() and one.name not in NOT_EXPORTED)
        for folder in folders:
            shutil.copytree(folder, directory / folder.name, dirs_exist_ok=True)
        names = [file.relative_to(source) for folder in folders for file in _files(folder)]
    if runbooks_url != RUNBOOKS_URL:
        for rules in (directory / "prometheus").rglob("*.yml"):
            text = rules.read_text(encoding="utf-8")
            rules.write_text(text.replace(RUNBOOKS_URL, f"{runbooks_url.rstrip('/')}/"), encoding="utf-8")
    if output is ReportFormat.JSON:
        print_json({"directory": str(directory), "files": [name.as_posix() for name in names]})
    else:
        print_line(f"{len(names)} files in {directory}: {', '.join(folder.name for folder in folders)}.")
    return Exit.OK


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def register(program: typer.Typer) -> None:
    """Add `observability` to the program."""
    program.add_typer(app, name="observability", rich_help_panel="Operations")
