"""The program as it is started: by its names, fast, with its version and with completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobledger
from jobledger.cli import calls
from jobledger.client import DEFAULT_URL

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
LIBRARIES = {"faust", "confluent_kafka", "psycopg", "strawberry", "starlette", "uvicorn", "eventsourcing"}


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, env={**CLEAN, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "program",
    [
        [sys.executable, "-m", "jobledger"],
        [sys.executable, "-m", "jobledger.cli"],
        [str(Path(sys.executable).with_name("jobledger"))],
    ],
    ids=["python -m jobledger", "python -m jobledger.cli", "jobledger"],
)
def test_the_program_has_a_version_however_it_is_started(program: list[str]) -> None:
    """On standard output, alone."""
    done = started(*program, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"jobledger {jobledger.__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell: str) -> None:
    """To be installed, or shown to be put somewhere."""
    done = started(sys.executable, "-m", "jobledger", "--show-completion", shell)
    assert done.returncode == 0
    assert "_JOBLEDGER_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("jobledger jo", ["jobs"]), ("jobledger jobs list --sta", ["--status"]), ("jobledger queues c", ["create"])],
)
def test_commands_and_options_are_completed(words: str, expected: list[str]) -> None:
    """As bash asks for them."""
    count = str(len(words.split()) - 1)
    done = started(
        sys.executable, "-m", "jobledger", _JOBLEDGER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count
    )
    assert done.stdout.split() == expected


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["submit", "x"], ["jobs", "list"], ["workers", "list"], ["dev", "--help"]]
)
def test_a_command_imports_nothing_that_it_does_not_need(arguments: list[str]) -> None:
    """No library of Kafka, Postgres or a server; before the api has been reached, no client either."""
    unwanted = sorted(LIBRARIES | {"httpx", "websockets", "structlog"})
    code = (
        "import sys; from jobledger.cli.program import run; run(sys.argv[1:]); "
        f"found = [name for name in {unwanted} if name in sys.modules]; sys.exit(f'imported {{found}}' if found else 0)"
    )
    done = started(sys.executable, "-c", code, *arguments, JOBLEDGER_API_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr


def test_the_client_imports_no_library_of_a_server() -> None:
    """So that a command that asks the api starts fast."""
    code = f"import sys, jobledger.client; sys.exit(str(set(sys.modules) & {LIBRARIES}).removeprefix('set()'))"
    done = started(sys.executable, "-c", code)
    assert "imported" not in done.stderr and done.stderr.strip() == "", done.stderr


def test_the_address_of_the_api_is_the_clients_default() -> None:
    """The program knows it without the client, which takes long to import."""
    assert calls.DEFAULT_URL == DEFAULT_URL
