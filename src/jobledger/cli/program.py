"""The program: its commands put together, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from jobledger.cli.failure import Exit, sentence_of

ROLES = ("api", "scheduler", "projector", "worker")


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status. Errors that a person can mend are one sentence, never a traceback."""
    role = bool(arguments) and arguments[0] in ROLES
    if role:  # before anything else is imported: the parent may already be gone
        from jobledger.dev.parent import die_with_parent  # noqa: PLC0415

        die_with_parent()
    try:
        program = build(arguments[0] if role else None)
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
        return _say(str(known), Exit.UNUSABLE if role else known.status)


def _usage(error: TyperException) -> int:
    message: Callable[[], str] = getattr(error, "format_message", lambda: str(error))
    if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
        return Exit.UNUSABLE
    text = " ".join(message().split()).rstrip(".")
    context: Any = getattr(error, "ctx", None)
    place = context.command_path if context is not None else "jobledger"
    return _say(f"{text}; see `{place} --help`.", Exit.UNUSABLE)


def _say(sentence: str, status: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return int(status)


def build(only: str | None = None) -> Any:
    """All commands, callable with `args`; `only` one role when that is what runs, for the rest costs imports."""
    from jobledger.cli import dev, roles  # noqa: PLC0415

    app = typer.Typer(
        name="jobledger",
        help="A distributed job scheduler whose only truth is a log.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    roles.register(app)
    dev.register(app)
    if only not in ROLES:
        from jobledger.cli import jobs, operate, queues, submit  # noqa: PLC0415

        for part in (submit, jobs, queues, operate):
            part.register(app)
    return typer.main.get_command(app)
