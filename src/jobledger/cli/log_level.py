"""`jobledger log-level`: what the loggers of a running role tell."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_fields, print_json, print_rows
from jobledger.workers.durations import seconds_of

CALL_SECONDS = 5.0
PATH = "/log-levels"


def log_level(
    url: Annotated[str, typer.Argument(help="Metrics and health of the role, such as http://127.0.0.1:8101.")],
    logger: Annotated[
        str | None, typer.Argument(help="Module or package, handlers.NAME, a library, or root; without: show all.")
    ] = None,
    level: Annotated[str | None, typer.Argument(help="DEBUG, INFO, WARN or ERROR; without: as it was before.")] = None,
    for_: Annotated[str, typer.Option("--for", help="It goes back after this: 90s, 10m, at most 1d.")] = "10m",
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Show or change, for a time, what a running role logs. Works on the machine of the role alone."""
    if logger is None:
        found = _ask(url, "GET", PATH)
        if output is ReportFormat.JSON:
            print_json(found)
        else:
            _print_levels(found)
        return Exit.OK
    path = f"{PATH}/{quote(logger, safe='')}"
    if level is None:
        answer = _ask(url, "DELETE", path)
    else:
        answer = _ask(url, "PUT", f"{path}?{urlencode({'level': level, 'seconds': _seconds(for_)})}")
    if output is ReportFormat.JSON:
        print_json(answer)
    else:
        print_fields(answer)
    return Exit.OK


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise CliError(f"--for: {error}") from error


def _print_levels(found: dict[str, Any]) -> None:
    changed = {change["logger"]: change for change in found["changed"]}
    rows = []
    for name, level in found["loggers"].items():
        change = changed.get(name, {})
        rows.append((name, level, change.get("until"), change.get("changed_by")))
    print_rows(("LOGGER", "LEVEL", "UNTIL", "CHANGED BY"), rows, "There are no loggers.")


def _ask(url: str, method: str, path: str) -> dict[str, Any]:
    host, port = _address(url)
    connection = http.client.HTTPConnection(host, port, timeout=CALL_SECONDS)
    try:
        connection.request(method, path, headers={"x-jobledger-actor": _actor()})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        raise CliError(
            f"The role at {url} can't be reached ({reason}): give the port of its metrics and health.", Exit.UNREACHABLE
        ) from error
    finally:
        connection.close()
    return _answer(url, response.status, body)


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname:
            return parts.hostname, parts.port or 80
    except ValueError:
        pass
    raise CliError(f"'{url}' is no address of a role: write it like http://127.0.0.1:8101.")


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _answer(url: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(body)
        sentence = found.get("error", "")
    except (ValueError, AttributeError) as error:
        raise CliError(
            f"What listens at {url} has no levels of loggers: give the port of metrics and health of a role."
        ) from error
    if status != http.client.OK:
        raise CliError(sentence, Exit.UNUSABLE if status in (400, 404) else Exit.REFUSED)
    return found


def register(app: typer.Typer) -> None:
    """Add `log-level` to the program."""
    app.command("log-level", rich_help_panel="Operations")(log_level)
