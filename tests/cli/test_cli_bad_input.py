"""Every bad input of the command line and of handler modules: one sentence, the right exit status, nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from jobledger.cli.program import run

UNUSABLE, UNREACHABLE = 2, 4
#: Arguments, the exit status, and words of the sentence. `{file}`: a file; `{free}`: a port where nobody listens.
COMMAND_LINES: list[tuple[str, int, str]] = [
    # -- the program
    ("--nope", UNUSABLE, "No such option: --nope; see `jobledger --help`."),
    ("nope", UNUSABLE, "No such command 'nope'; see `jobledger --help`."),
    ("jbos list", UNUSABLE, "No such command 'jbos'. Did you mean 'jobs'?"),
    ("jobs frobnicate", UNUSABLE, "No such command 'frobnicate'; see `jobledger jobs --help`."),
    # -- submit
    ("submit", UNUSABLE, "Missing argument 'name'; see `jobledger submit --help`."),
    ("submit echo more", UNUSABLE, "Got unexpected extra argument(s) (more)"),
    ("submit echo --nope", UNUSABLE, "No such option: --nope"),
    ("submit echo --payload", UNUSABLE, "Option '--payload' requires an argument"),
    ("submit echo --payload {", UNUSABLE, "--payload is not JSON (Expecting property name"),
    ("submit echo --payload ''", UNUSABLE, "got nothing; in a shell put it in single quotes"),
    ("submit echo --payload {to:x}", UNUSABLE, "got {to:x}; in a shell put it in single quotes"),
    ("submit echo --payload NaN", UNUSABLE, "NaN is no JSON number"),
    ("submit echo --payload 1e999999", UNUSABLE, "1e999999 is too large for a JSON number"),
    ("submit echo --payload " + "[" * 100_000, UNUSABLE, "--payload is nested too deeply"),
    ("submit echo --at 2026-01-01T00:00:00", UNUSABLE, "has no zone: add Z or an offset"),
    ("submit echo --at tomorrow", UNUSABLE, "--at is 'tomorrow', which is no time: write it like 2026-"),
    ("submit echo --at 2026-13-01T00:00:00Z", UNUSABLE, "--at is '2026-13-01T00:00:00Z', which is no time"),
    ("submit echo --in 5x", UNUSABLE, "--in: '5x' is not a length of time; write it like 30s"),
    ("submit echo --in -5s", UNUSABLE, "--in: '-5s' is not a length of time"),
    ("submit echo --in ''", UNUSABLE, "--in: '' is not a length of time"),
    ("submit echo --at 2030-01-01T00:00:00Z --in 5m", UNUSABLE, "--at and --in exclude each other; give one"),
    ("submit echo --timeout 0s", UNUSABLE, "--timeout: '0s' is not a length of time above 0"),
    ("submit echo --wait --wait-timeout 1x", UNUSABLE, "--wait-timeout: '1x' is not a length of time"),
    ("submit echo --tag x", UNUSABLE, "--tag is 'x': write it as NAME=VALUE"),
    ("submit echo --tag =x", UNUSABLE, "--tag is '=x': write it as NAME=VALUE"),
    ("submit echo --tag x=1 --tag x=2", UNUSABLE, "--tag names 'x' twice; give each name once."),
    ("submit echo --priority high", UNUSABLE, "Invalid value for '--priority': Input should be a valid integer; see"),
    ("submit echo --max-attempts x", UNUSABLE, "Invalid value for '--max-attempts'"),
    # -- jobs, queues
    ("jobs show", UNUSABLE, "Missing argument 'job_id'"),
    ("jobs show a b", UNUSABLE, "Got unexpected extra argument(s) (b)"),
    ("jobs list --status DONE", UNUSABLE, "Invalid value for '--status'"),
    ("jobs list --tag x", UNUSABLE, "--tag is 'x': write it as NAME=VALUE"),
    ("jobs list --limit 0", UNUSABLE, "Input should be greater than or equal to 1"),
    ("jobs list --limit x", UNUSABLE, "Invalid value for '--limit' / '-n': Input should be a valid integer; see"),
    ("jobs list --output yaml", UNUSABLE, "'yaml' is not one of 'table', 'json', 'jsonl', 'id'"),
    ("queues create", UNUSABLE, "Missing argument 'name'"),
    ("queues create x --max-waiting-bytes 5x", UNUSABLE, "write it like 1000000, 500MiB or 1GiB"),
    ("queues create x --max-waiting-bytes -1", UNUSABLE, "--max-waiting-bytes is '-1'"),
    ("queues update x", UNUSABLE, "There is nothing to change: give --max-waiting-bytes or --description."),
    # -- logs
    ("logs --dir /nowhere", UNUSABLE, "There is no directory /nowhere: name one with --dir"),
    ("logs 'level:ERROR AND' --dir .", UNUSABLE, "The query is wrong at character 16: it ends too early"),
    ("logs 'x:>now+1 | sort x' --dir .", UNUSABLE, "The query is wrong at character 11: after | only"),
    ("logs --since 5x --dir .", UNUSABLE, "--since: '5x' is not a length of time"),
    ("logs --limit 0", UNUSABLE, "Input should be greater than or equal to 1"),
    ("logs '|sort -@timestamp' -f --dir .", UNUSABLE, "--follow shows lines as they come: leave out"),
    ("log-level", UNUSABLE, "Missing argument 'url'"),
    ("log-level 127.0.0.1:8101", UNUSABLE, "is no address of a role: write it like http://127.0.0.1:8101."),
    ("log-level http://[x", UNUSABLE, "is no address of a role"),
    ("log-level http://127.0.0.1:{free} root", UNREACHABLE, "can't be reached (connection refused): give the port"),
    ("log-level http://127.0.0.1:{free} root DEBUG --for 1x", UNUSABLE, "--for: '1x' is not a length of time"),
    # -- where the api is
    ("jobs list --api-url ftp://x", UNUSABLE, "--api-url is 'ftp://x': write it like http://127.0.0.1:8080."),
    ("jobs list --api-url 127.0.0.1:8080", UNUSABLE, "--api-url is '127.0.0.1:8080': write it like"),
    ("jobs list --api-url http://", UNUSABLE, "--api-url is 'http://': write it like"),
    ("jobs list --api-url http://h:99999", UNUSABLE, "--api-url is 'http://h:99999': write it like"),
    ("jobs list --api-url http://[::1", UNUSABLE, "--api-url is 'http://[::1': write it like"),
    ("jobs list --api-url http://a..b:80", UNREACHABLE, "can't be reached (no host can have that name)"),
    (
        "jobs list --api-url http://127.0.0.1:{free}",
        UNREACHABLE,
        "(connection refused): is it running? `job",
    ),
    ("submit x --api-url https://127.0.0.1:{free}", UNREACHABLE, "(connection refused): is it running?"),
    # -- roles and dev
    ("api --port 99999", UNUSABLE, "--port is '99999': input should be less than or equal to 65535."),
    ("api --port 80x", UNUSABLE, "Invalid value for '--port': Input should be a valid integer; see"),
    ("api --host not.an.address", UNUSABLE, "JOBLEDGER_HOST is 'not.an.address', which is no address of this machine"),
    ("worker --slots many", UNUSABLE, "Invalid value for '--slots'"),
    ("worker --slots 0", UNUSABLE, "--slots is '0': input should be greater than or equal to 1."),
    ("worker --pool 'A B'", UNUSABLE, "--pool is 'A B': string should match pattern"),
    ("scheduler --log-level LOUD", UNUSABLE, "--log-level is 'LOUD': input should be 'DEBUG', 'INFO'"),
    ("dev --workers 99", UNUSABLE, "--workers is 99: choose 0 to 9."),
    ("dev --port-base 70000", UNUSABLE, "--port-base is 70000: choose 1 to 65485."),
    ("dev --port-base abc", UNUSABLE, "Invalid value for '--port-base': Input should be a valid integer; see"),
    ("dev --partitions 0", UNUSABLE, "--partitions is 0: choose 1 to 1024."),
    ("dev --ready-timeout -1", UNUSABLE, "--ready-timeout is -1: choose seconds above 0."),
    ("dev --data-dir {file}", UNUSABLE, "--data-dir is {file}, which is a file: name a directory."),
    ("dev --ready-file {folder}", UNUSABLE, "--ready-file is {folder}, which can't be written (is a directory)"),
    # -- operations
    ("config show --output xml", UNUSABLE, "'xml' is not one of 'table', 'json'"),
    ("schema export --directory {file}", UNUSABLE, "{file}: file exists; name another path."),
    ("schema check --directory {file}", UNUSABLE, "--directory is {file}, which is no directory"),
]
#: Text of a module with handlers (None: there is none), and words of the sentence.
MODULES: list[tuple[str | None, str]] = [
    (None, "Handler module '{name}' was not found; JOBLEDGER_HANDLERS takes names as in `import`"),
    ("import no_such_library", "Handler module '{name}' needs 'no_such_library', which is not installed."),
    ("def f(:", "Handler module '{name}' failed at import: SyntaxError: invalid syntax ({name}.py, line 1)"),
    ("1 / 0", "Handler module '{name}' failed at import: ZeroDivisionError: division by zero"),
    ("raise RuntimeError('two\\nlines')", "Handler module '{name}' failed at import: RuntimeError: two lines"),
    ("import sys; sys.exit(3)", "Handler module '{name}' ends the process when it is imported (sys.exit)"),
    ("x = 1", "Handler module '{name}' has no handlers; decorate functions with @handler."),
    ("@handler\ndef f(p): ...\n@handler\ndef f(q): ...", "Handler 'f' is defined twice in module '{name}', at lines"),
    ("@handler\ndef _f(p): ...", "Handler name '_f' is not valid: use 1 to 100 letters"),
    ("@handler('a', retry=0)\ndef f(p): ...", "retry of handler 'a': max_attempts is 0, but must be 1 to 1000."),
    (
        "@handler('a', retry='often')\ndef f(p): ...",
        "retry of handler 'a': it is 'often', but must be a Ret",
    ),
    ("@handler(7)\ndef f(p): ...", "Handler name 7 is not valid: use 1 to 100 letters"),
    ("@handler('a b')\ndef f(p): ...", "Handler name 'a b' is not valid: use 1 to 100 letters"),
    ("@handler('a', timeout='5 parsec')\ndef f(p): ...", "timeout of handler 'a': '5 parsec' is not a length of time"),
    ("@handler('a', run_in='fork')\ndef f(p): ...", "run_in of handler 'a' is 'fork', but must be 'process' or"),
    ("@handler('a', run_in='thread')\nasync def f(p): ...", "is async and runs in the event loop; leave run_in="),
    ("@handler('a')\ndef f(p): yield", "Handler 'a' is a generator; return the result instead"),
    ("@handler('a')\ndef f(p, q, r): ...", "Handler 'a' has the signature (p, q, r), but must have (payload)"),
    ("@handler('a')\nclass F: ...", "@handler('a') stands on a type; put it on a function."),
    ("@handler('a')\ndef f(p: 'Nope'): ...", "The annotation of 'p' in handler 'a' can't be used for payloads"),
    (
        "@handler('a')\ndef f(p): ...\n@handler('a')\ndef g(p): ...",
        "Handler 'a' is defined twice: {name}.f and",
    ),
]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a command puts into the environment goes with the test."""
    for name in [name for name in os.environ if name.startswith("JOBLEDGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize(("line", "status", "words"), COMMAND_LINES, ids=[line[:60] for line, *_ in COMMAND_LINES])
def test_a_command_that_can_not_work(
    line: str, status: int, words: str, tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    places = {"file": str(tmp_path / "file"), "folder": str(tmp_path), "free": str(free_port)}
    assert run([filled(word, places) for word in split(line)]) == status
    one_sentence(capsys, filled(words, places))


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize(("text", "words"), MODULES, ids=[words[:60] for _, words in MODULES])
def test_a_module_of_handlers_that_can_not_work(
    text: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    name = f"bad_handlers_{abs(hash(request.node.name))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    if text is not None:
        (tmp_path / f"{name}.py").write_text(f"{'from jobledger import handler; ' if '@' not in text else ''}{text}")
        if "@" in text:
            (tmp_path / f"{name}.py").write_text(f"from jobledger import handler\n{text}\n")
    assert run(["worker", "--check", "--handlers", name]) == UNUSABLE
    one_sentence(capsys, filled(words, {"name": name}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "The worker has no handlers: name the modules that hold them in JOBLEDGER_HANDLERS"),
        (
            {"JOBLEDGER_PARTITIONS": "many"},
            "JOBLEDGER_PARTITIONS is 'many': input should be a valid integer. Set",
        ),
        ({"JOBLEDGER_CELL": "Bad Cell"}, "JOBLEDGER_CELL is 'Bad Cell': string should match pattern"),
        ({"JOBLEDGER_LEASE_SECONDS": "x"}, "JOBLEDGER_LEASE_SECONDS is 'x': input should be a valid number. Set it"),
        ({"JOBLEDGER_WORKER_SLOTS": "0"}, "JOBLEDGER_WORKER_SLOTS is '0': input should be greater than or equal to 1."),
        ({"JOBLEDGER_KAFKA_SECURITY_PROTOCOL": "TLS"}, "JOBLEDGER_KAFKA_SECURITY_PROTOCOL is 'TLS': input should be"),
        ({"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": ""}, "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS is '': string should have at"),
    ],
)
@pytest.mark.usefixtures("no_settings")
def test_a_setting_that_can_not_work(
    given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in given.items():
        monkeypatch.setitem(os.environ, name, value)
    assert run(["worker", "--check"]) == UNUSABLE
    one_sentence(capsys, words)


def filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def split(line: str) -> list[str]:
    """As a shell would; quickly for a very long word."""
    import shlex

    return shlex.split(line) if len(line) < 1_000 else line.split()


def one_sentence(capsys: pytest.CaptureFixture[str], words: str) -> None:
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err


@pytest.fixture
def free_port() -> int:
    from jobledger.dev.ports import free_port

    return free_port()
