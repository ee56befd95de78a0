"""The program: its commands put together, and how it ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from jobledger.cli.exits import Exit
from jobledger.cli.failure import plain, sentence_of

ROLES = ("api", "scheduler", "projector", "worker")

#: Each command or group, and the module that registers it: one noun, one module.
_MODULES = {
    **dict.fromkeys(ROLES, "roles"),
    "dev": "dev",
    "submit": "submit",
    "jobs": "jobs",
    "queues": "queues",
    "workers": "workers",
    "slo": "slo",
    "command": "command",
    "trace": "trace",
    "quarantine": "quarantine",
    "projection": "projection",
    "replay": "replay",
    "config": "config",
    "keys": "keys",
    "db": "db",
    "topics": "topics",
    "cluster": "cluster",
    "schedulers": "schedulers",
    "schema": "schema",
    "observability": "observability",
    "logs": "logs",
    "log-level": "log_level",
}


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status. Errors that a person can mend are one sentence, never a traceback."""
    role = bool(arguments) and arguments[0] in ROLES
    if role:  # before anything else is imported: the parent may already be gone
        from jobledger.dev.parent import die_with_parent  # noqa: PLC0415

        die_with_parent()
    try:
        program = build(arguments[0] if arguments else None)
        outcome = program(args=list(arguments), prog_name="jobledger", standalone_mode=False)
        return outcome if isinstance(outcome, int) else Exit.OK
    except TyperException as error:
        return _usage(error)
    except typer.Exit as ended:
        return ended.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has enough: no message, and nothing more to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:
        known = sentence_of(error)
        if known is None:
            raise
        return _say(str(known), known.status)


def _usage(error: TyperException) -> int:
    message: Callable[[], str] = getattr(error, "format_message", lambda: str(error))
    if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
        return Exit.UNUSABLE
    text = plain(" ".join(message().split())).rstrip(".")
    context: Any = getattr(error, "ctx", None)
    place = context.command_path if context is not None else "jobledger"
    return _say(f"{text}; see `{place} --help`.", Exit.UNUSABLE)


def _say(sentence: str, status: int) -> int:
    sys.stderr.write(f"{' '.join(sentence.split())}\n")
    return int(status)


def _print_version(wanted: bool) -> None:
    if wanted:
        from jobledger import __version__  # noqa: PLC0415 - reads the package's metadata

        typer.echo(f"jobledger {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A distributed job scheduler whose only truth is a log."""


def build(only: str | None = None) -> Any:
    """The program, callable with `args`; when `only` names a command or group, that one alone: imports cost time."""
    app = typer.Typer(name="jobledger", no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_program)
    wanted = [_MODULES[only]] if only in _MODULES else dict.fromkeys(_MODULES.values())
    for name in wanted:
        importlib.import_module(f"jobledger.cli.{name}").register(app)
    return typer.main.get_command(app)
