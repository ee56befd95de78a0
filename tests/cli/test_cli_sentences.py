"""Errors of the command line: one sentence on standard error, a documented exit status, no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jobledger.cli.program import run


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    for name in [name for name in os.environ if name.startswith("JOBLEDGER_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str) -> Said:
        status = run(arguments)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return call


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("arguments", [(), ("jobs",), ("queues",)])
def test_a_group_without_a_command_shows_its_help(cli: Callable[..., Said], arguments: tuple[str, ...]) -> None:
    """And exits with 2, for nothing was done."""
    said = cli(*arguments)
    assert (said.status, said.err) == (2, "")
    assert f"Usage: {' '.join(('jobledger', *arguments))} [OPTIONS] COMMAND" in said.out


def test_an_api_that_is_not_there_is_named_with_what_starts_one(cli: Callable[..., Said]) -> None:
    """The sentence names the address, `jobledger dev` and the option; exit status 4."""
    url = f"http://127.0.0.1:{closed_port()}"
    for arguments in (("jobs", "list"), ("submit", "echo"), ("queues", "create", "q"), ("workers", "list")):
        said = cli(*arguments, "--api-url", url)
        assert said.status == 4
        assert said.out == ""
        assert said.err.startswith(f"The api at {url} can't be reached (connection refused): is it running?")
        assert "`jobledger dev` starts one" in said.err


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("JOBLEDGER_PARTITIONS", "many", "JOBLEDGER_PARTITIONS is 'many': input should be a valid integer"),
        ("JOBLEDGER_CELL", "Bad Cell", "JOBLEDGER_CELL is 'Bad Cell'"),
        ("JOBLEDGER_KAFKA_SECURITY_PROTOCOL", "TLS", "JOBLEDGER_KAFKA_SECURITY_PROTOCOL is 'TLS'"),
        ("JOBLEDGER_WORKER_SLOTS", "0", "JOBLEDGER_WORKER_SLOTS is '0'"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """Field, value and remedy; exit status 2."""
    monkeypatch.setenv(variable, value)
    said = cli("config", "show")
    assert said.status == 2
    assert expected in said.err
    assert "`jobledger config show`" in said.err


@pytest.mark.parametrize("role", ["api", "scheduler", "projector", "worker"])
def test_a_role_whose_port_is_taken_says_so_at_once(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """The sentence names the port and the variable; exit status 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("JOBLEDGER_HEALTH_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("JOBLEDGER_API_PORT", "0")
        said = cli(role)
        assert said.status == 2
        assert f"Cannot listen on 127.0.0.1:{taken.getsockname()[1]}" in said.err
        assert "JOBLEDGER_HEALTH_PORT" in said.err


def test_a_worker_without_handlers_says_how_to_name_them() -> None:
    """As a process of its own, since it configures the logs of the whole process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
    done = subprocess.run(
        [sys.executable, "-m", "jobledger.cli", "worker", "--health-port", "0"],
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "JOBLEDGER_HANDLERS=my_app.handlers" in done.stderr
    assert "Traceback" not in done.stderr


def test_kafka_away_is_one_sentence(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres alike; both exit with 4 and name the setting."""
    monkeypatch.setenv("JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port()}")
    monkeypatch.setattr("jobledger.eventlog.topics.ADMIN_SECONDS", 2.0)
    said = cli("topics", "check")
    assert said.status == 4
    assert "is it running? Start it, or set JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS." in said.err
    monkeypatch.setenv("JOBLEDGER_POSTGRES_DSN", f"postgresql://u:secret@127.0.0.1:{closed_port()}/x")
    said = cli("db", "migrate")
    assert said.status == 4
    assert "is it running? Start it, or set JOBLEDGER_POSTGRES_DSN." in said.err
    assert "secret" not in said.err


#: A process in which nothing of the extra `server` is installed.
WITHOUT_THE_SERVER = """
import importlib.abc, sys
from jobledger.cli.failure import _SERVER

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in _SERVER - {"graphql"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing())
if sys.argv[1:] == ["testing"]:
    import jobledger.testing
from jobledger.cli import main
sys.argv = ["jobledger", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("command", ["scheduler", "worker", "dev", "db migrate", "config show", "topics check"])
def test_a_command_of_the_server_names_the_extra_that_is_not_installed(command: str) -> None:
    arguments = [sys.executable, "-c", WITHOUT_THE_SERVER, *command.split()]
    said = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and said.stdout == ""
    assert "pip install 'jobledger[server]'" in said.stderr and said.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["--version", "submit --help", "queues --help", "jobs --help", "quarantine --help"])
def test_the_commands_of_the_client_need_no_server(command: str) -> None:
    arguments = [sys.executable, "-c", WITHOUT_THE_SERVER, *command.split()]
    said = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_what_tests_import_names_the_extra_too() -> None:
    arguments = [sys.executable, "-c", WITHOUT_THE_SERVER, "testing"]
    said = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "jobledger.testing needs the extra 'server', of which eventsourcing is not installed" in said.stderr
