"""What the command line prints: JSON for programs, tables without control characters, settings without secrets."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest

from jobledger.cli.configuration import HIDDEN, entries, redact_dsn
from jobledger.cli.jobs import short_type
from jobledger.cli.output import MAX_CELL, cell, moment, print_fields, print_rows
from jobledger.cli.program import run
from jobledger.cli.queues import parse_size, size
from jobledger.cli.reference import commands
from jobledger.graphql.api_keys import ApiKeys
from jobledger.settings import KafkaSettings, SecretStoreSettings, Settings

SECRETS = {
    "JOBLEDGER_POSTGRES_DSN": "postgresql://user:hunter2@db:5432/jobs?sslmode=require",
    "JOBLEDGER_KAFKA_SASL_PASSWORD": "hunter2",
    "JOBLEDGER_KAFKA_SSL_KEY_PASSWORD": "hunter2",
}


@pytest.mark.parametrize("output", ["table", "json"])
def test_config_show_has_every_setting_and_no_secret(
    output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not a secret of a connection string stays readable."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert run(["config", "show", "--output", output]) == 0
    said = capsys.readouterr().out
    assert "hunter2" not in said
    assert "host=db" in said
    for name in (*SECRETS, "JOBLEDGER_CELL", "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS"):
        assert name in said
    if output == "json":
        document = json.loads(said)
        assert document["JOBLEDGER_KAFKA_SASL_PASSWORD"] == {"value": HIDDEN, "source": "environment"}


def test_every_field_of_the_settings_is_listed() -> None:
    """Nested ones by the variable that sets them."""
    nested = (KafkaSettings, SecretStoreSettings)
    count = len(Settings.model_fields) - len(nested) + sum(len(one.model_fields) for one in nested)
    found = entries(Settings(), {"jobledger_cell": "x"})
    assert len({entry.variable for entry in found}) == len(found) == count
    assert [entry.variable for entry in found if entry.source == "environment"] == ["JOBLEDGER_CELL"]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2@h/db",
        "postgresql://h/db?user=u&password=hunter2",
        "host=h user=u password=hunter2",
        "host=h password='hunter2",
        "postgresql://u:hunter2@h:notaport/db",
    ],
)
def test_the_password_of_a_connection_string_is_hidden_however_it_is_written(dsn: str) -> None:
    """One that cannot be read is hidden whole."""
    assert "hunter2" not in redact_dsn(dsn)


def test_a_cell_is_one_short_line_without_control_characters() -> None:
    """A job's text must not drive somebody's terminal."""
    assert cell("a\x1b[2Jb\nc") == "a�[2Jb c"
    assert len(cell("x" * 1000)) == MAX_CELL
    assert [cell(value) for value in (None, "", [], {}, True, 0, {"a": 1})] == [
        "-",
        "-",
        "-",
        "-",
        "yes",
        "0",
        '{"a": 1}',
    ]


def test_fields_are_whole_and_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines below the first are indented under it."""
    print_fields({"a": "x\ny\x1b", "long name": "z" * 500, "empty": None})
    assert capsys.readouterr().out == f"a          x\n           y�\nlong name  {'z' * 500}\n"


def test_rows_are_not_cut_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """Pipes get whole cells, no colour; without rows nothing is on standard output."""
    print_rows(("A", "B"), [("x" * 100, "y")], "Nothing.")
    assert capsys.readouterr().out.splitlines()[1] == f"{'x' * 100}  y"
    print_rows(("A", "B"), [], "Nothing.")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Nothing.\n")


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it a terminal gets no escape sequence of a colour."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for names, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        print_rows(("A",), [("x",)], "")
        # Bold is no colour; NO_COLOR asks for the latter.
        assert "\x1b[3" not in terminal.getvalue()
        assert ("\x1b[1m" in terminal.getvalue()) or not coloured


def test_sizes_times_and_types_for_people() -> None:
    """And back."""
    assert [size(n) for n in (0, 2048, 1024**3)] == ["0 B", "2.0 KiB", "1.0 GiB"]
    assert [parse_size(text) for text in ("12", "2KiB", "500 MiB", "1gib", None)] == [
        12,
        2048,
        500 * 1024**2,
        1024**3,
        None,
    ]
    assert moment("2026-01-31T09:30:00.123456+00:00") == "2026-01-31T09:30:00.123Z"
    assert moment("2026-01-31T09:30:00+00:00") == "2026-01-31T09:30:00Z"
    assert short_type("io.jobledger.job.submitted.v1") == "job.submitted"


def test_schema_check_finds_the_committed_files_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """And says so as JSON for programs."""
    assert run(["schema", "check", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "differences": []}


def test_every_command_that_answers_has_both_outputs() -> None:
    """All but those that start processes or write files."""
    silent = {"api", "scheduler", "projector", "worker", "dev", "schema export"}
    for path, command in commands():
        names = {name for parameter in command.params for name in parameter.opts}
        assert ("--output" in names) is (path.removeprefix("jobledger ") not in silent), path
        assert command.help, path


def test_a_worker_option_reaches_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of the pool read the environment."""
    from jobledger.cli.roles import settings_with

    monkeypatch.setenv("JOBLEDGER_WORKER_SLOTS", "1")
    monkeypatch.setenv("JOBLEDGER_HANDLERS", "before")
    settings = settings_with(worker_slots=3, handlers=["a.b", "c"], log_level=None)
    assert (settings.worker_slots, settings.handlers) == (3, ["a.b", "c"])
    assert os.environ["JOBLEDGER_HANDLERS"] == "a.b,c"


def test_a_key_is_shown_once_with_the_entry_that_an_api_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "ann", "--output", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert ApiKeys(Settings(api_keys=[made["entry"]]).api_keys).holder(f"Bearer {made['key']}") == "ann"
    assert run(["keys", "create", "ann"]) == 0
    table = capsys.readouterr().out
    assert "jl_" in table and made["key"] not in table, "no two are the same"
    assert run(["keys", "create", "ann:x"]) == 2
    assert "is no name for a key" in capsys.readouterr().err
