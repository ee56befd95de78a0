"""`jobledger dev`, with stand-ins for the roles: everything starts, is restarted, and ends with its supervisor."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from port_bases import free_port_base

from jobledger.dev.options import BadOptionError, DevOptions, layout

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
SCRIPT = Path(__file__).with_name("standin_dev.py")


class Dev:
    """One running supervisor and what its ready file says."""

    def __init__(self, directory: Path, port_base: int, *arguments: str, **environment: str) -> None:
        self.ready_file = directory / f"ready-{random.getrandbits(32)}.json"
        self.output = directory / "output.txt"
        self.data_dir = directory / "data"
        self.port_base = port_base
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(SCRIPT),
                    f"data_dir={self.data_dir}",
                    f"port_base={port_base}",
                    f"ready_file={self.ready_file}",
                    *arguments,
                ],
                stdout=output,
                stderr=output,
                env={**os.environ, "STANDIN_OF": str(self.data_dir), **environment},
            )
        self.seen: set[int] = set()

    def ready(self, accept: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.ready_file.exists():
                document: dict[str, Any] = json.loads(self.ready_file.read_text())
                self.seen |= pids(document)
                if accept(document):
                    return document
            time.sleep(0.05)
        raise AssertionError(self.output.read_text())

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def pids(document: dict[str, Any]) -> set[int]:
    return {document["broker"]["pid"], document["postgres"]["pid"], *(role["pid"] for role in document["roles"])}


def wait_until_gone(wanted: set[int], seconds: float) -> None:
    """Fails unless all of these processes end in time."""
    deadline = time.monotonic() + seconds
    while alive := {pid for pid in wanted if psutil.pid_exists(pid)}:
        assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in alive]
        time.sleep(0.05)


@pytest.fixture
def start(server_dir: Path) -> Iterator[Callable[..., Dev]]:
    """Starts supervisors below one directory; whatever is left at the end is killed."""
    directory = server_dir / f"dev-{random.getrandbits(32)}"
    directory.mkdir()
    started: list[Dev] = []

    def start_one(*arguments: str, port_base: int = 0, **environment: str) -> Dev:
        started.append(Dev(directory, port_base or free_port_base(), *arguments, **environment))
        return started[-1]

    yield start_one
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.process.wait()
        wait_until_gone(dev.seen, 30)


def test_a_stack_is_named_by_its_ready_file_guarded_and_mended_and_goes_away(start: Callable[..., Dev]) -> None:
    dev = start("workers=2")
    document = dev.ready()
    assert [role["instance_id"] for role in document["roles"]] == [
        "api-1",
        "scheduler-1",
        "projector-1",
        "worker-1",
        "worker-2",
    ]
    assert document["api_url"] == f"http://127.0.0.1:{dev.port_base}"
    assert all(psutil.pid_exists(pid) for pid in pids(document))
    with psycopg.connect(document["postgres_dsn"]) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("jobledger",)
    assert "worker-2 started" in (dev.data_dir / "logs" / "worker-2.jsonl").read_text()
    _is_alone_on_its_directory(dev, start)
    _starts_a_killed_role_again(dev)
    document = _starts_killed_servers_again(dev)
    assert dev.end() == 0
    wait_until_gone(pids(document), 0.5)
    assert not dev.ready_file.exists()


def _is_alone_on_its_directory(dev: Dev, start: Callable[..., Dev]) -> None:
    second = start()
    assert second.process.wait(20) == 2
    assert f"used by another jobledger dev (process {dev.process.pid}): stop it" in second.output.read_text()
    assert dev.process.poll() is None


def _starts_a_killed_role_again(dev: Dev) -> None:
    """And the ready file follows."""
    former = {role["instance_id"]: role["pid"] for role in dev.ready()["roles"]}
    os.kill(former["worker-1"], signal.SIGKILL)
    document = dev.ready(lambda seen: former["worker-1"] not in pids(seen) and 0 not in pids(seen))
    now = {role["instance_id"]: role["pid"] for role in document["roles"]}
    assert now.pop("worker-1") != former.pop("worker-1")
    assert now == former
    assert "worker-1 ended with signal 9; it starts again in 0.5 s." in dev.output.read_text()


def _starts_killed_servers_again(dev: Dev) -> dict[str, Any]:
    former = dev.ready()
    os.kill(former["broker"]["pid"], signal.SIGKILL)
    os.kill(former["postgres"]["pid"], signal.SIGKILL)
    document = dev.ready(lambda seen: all(seen[name] != former[name] for name in ("broker", "postgres")))
    with psycopg.connect(document["postgres_dsn"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    return document


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_the_next_start_has_all_history(
    start: Callable[..., Dev],
) -> None:
    dev = start()
    document = dev.ready()
    admin = AdminClient({"bootstrap.servers": document["kafka_bootstrap_servers"], "log_level": 0})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(10)
    with psycopg.connect(document["postgres_dsn"]) as connection:
        connection.execute("CREATE TABLE kept (number int)")
    children = psutil.Process(dev.process.pid).children(recursive=True)
    assert dev.end(signal.SIGKILL) == -signal.SIGKILL
    again = start(port_base=dev.port_base)  # at once: it waits for what is still ending
    document = again.ready()
    wait_until_gone({child.pid for child in children}, 20)
    admin = AdminClient({"bootstrap.servers": document["kafka_bootstrap_servers"], "log_level": 0})
    assert "kept" in admin.list_topics(timeout=10).topics
    with psycopg.connect(document["postgres_dsn"]) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert again.end() == 0


def test_a_stop_request_during_the_start_is_obeyed(start: Callable[..., Dev]) -> None:
    dev = start()
    deadline = time.monotonic() + 20
    while not (dev.data_dir / "kafka" / "server.properties").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(dev.process.pid).children(recursive=True)
    assert dev.end() == 0
    wait_until_gone({child.pid for child in children}, 1)


def test_data_keeps_the_number_of_partitions_that_it_was_made_with(start: Callable[..., Dev]) -> None:
    """Another one is refused before anything starts, none at all is that one."""
    first = start("partitions=2")
    first.ready()
    assert first.end() == 0
    other = start("partitions=8")
    assert other.process.wait(30) == 2
    expected = f"--partitions is 8, but the data in {other.data_dir} was made with 2, which is for ever: leave"
    assert other.output.read_text().splitlines()[-1].startswith(expected)
    again = start()
    environment = psutil.Process(again.ready()["roles"][0]["pid"]).environ()
    assert environment["JOBLEDGER_PARTITIONS"] == "2"
    assert again.end() == 0


def test_a_taken_port_is_named_with_its_owner_and_the_remedy(start: Callable[..., Dev]) -> None:
    base = free_port_base()
    with socket.create_server(("127.0.0.1", base + 1)):
        dev = start(port_base=base)
        assert dev.process.wait(20) == 2
    expected = f"Port {base + 1} (Kafka) is taken by process {os.getpid()} ("
    lines = dev.output.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(expected)
    assert "--port-base" in lines[0]


def test_a_role_that_cannot_start_ends_dev_with_the_end_of_its_log(start: Callable[..., Dev]) -> None:
    dev = start(STANDIN_FAILS="scheduler-1")
    assert dev.process.wait(60) == 1
    assert "scheduler-1 ended with status 1 before it was ready" in dev.output.read_text()
    assert "this role cannot start" in dev.output.read_text()


def test_a_role_that_refuses_its_settings_ends_dev_with_its_one_sentence(start: Callable[..., Dev]) -> None:
    """Status 2 says that no other start can work: it is not tried again."""
    dev = start(STANDIN_REFUSES="scheduler-1")
    assert dev.process.wait(60) == 2
    assert dev.output.read_text() == "These settings cannot work.\n"


def test_handlers_are_tried_before_anything_starts(start: Callable[..., Dev]) -> None:
    dev = start(STANDIN_BAD_HANDLERS="Handler module 'x' was not found.")
    assert dev.process.wait(60) == 2
    assert dev.output.read_text() == "Handler module 'x' was not found.\n"
    assert not (dev.data_dir / "kafka").exists()


def test_handlers_that_run_get_their_30_seconds_and_it_is_said(start: Callable[..., Dev], tmp_path: Path) -> None:
    """Longer than the 15 s after which they were killed once."""
    asked = tmp_path / "asked"
    dev = start(STANDIN_SLOW="worker-1", STANDIN_SLOW_FILE=str(asked), STANDIN_SLOW_SECONDS="20")
    dev.ready()
    assert dev.end(signal.SIGINT) == 0
    told = dev.output.read_text()
    assert "Waiting for worker-1 (its 2 running handlers have 30 s to end), at most 7" in told
    assert "Ctrl-C ends it at once." in told
    assert "killed" not in told


def test_no_role_is_killed_before_it_would_end_by_itself() -> None:
    from jobledger.bootstrap.scheduler import GRACE_SECONDS as SCHEDULER
    from jobledger.bootstrap.worker import GRACE_SECONDS as WORKER
    from jobledger.dev.supervisor import ROLE_GRACE_SECONDS, WORKER_GRACE_SECONDS
    from jobledger.telemetry.ending import GRACE_SECONDS as OTHERS

    assert WORKER_GRACE_SECONDS > WORKER
    assert max(OTHERS, SCHEDULER) < ROLE_GRACE_SECONDS


@pytest.mark.parametrize("when", ["while it stops", "while it starts"])
def test_a_second_ctrl_c_ends_at_once(start: Callable[..., Dev], tmp_path: Path, when: str) -> None:
    asked = tmp_path / "asked"
    dev = start(STANDIN_SLOW="worker-1", STANDIN_SLOW_FILE=str(asked), STANDIN_SLOW_SECONDS="600")
    if when == "while it stops":
        dev.ready()
    else:
        until((dev.data_dir / "kafka" / "server.properties").exists)
    children = {child.pid for child in psutil.Process(dev.process.pid).children(recursive=True)}
    dev.process.send_signal(signal.SIGINT)
    if when == "while it stops":
        until(asked.exists)
    until(lambda: pressed_again(dev))
    assert dev.process.returncode == 130
    wait_until_gone(children, 10)
    assert "Ending everything at once." in dev.output.read_text()
    again = start(port_base=dev.port_base)
    again.ready()
    assert again.end() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "twice"])
def test_workers_and_api_stop_first_and_what_a_handler_left_behind_ends_too(
    start: Callable[..., Dev], tmp_path: Path, how: Any
) -> None:
    """Also what went away from its session and its group."""
    order = tmp_path / "order"
    dev = start(STANDIN_LEAVES="worker-1", STANDIN_ORDER=str(order))
    dev.ready()
    (left,) = [one for one in psutil.process_iter(["cmdline"]) if is_left_by(one, dev)]
    if how == "twice":
        dev.process.send_signal(signal.SIGINT)
        dev.process.send_signal(signal.SIGINT)
        dev.process.wait(60)
    else:
        assert dev.end(how) == 0
        ended = order.read_text().split()
        assert set(ended[:2]) == {"worker-1", "api-1"}
        assert set(ended[2:]) == {"scheduler-1", "projector-1"}
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert f"Process {left.pid}: sleep 600 had outlived its role; it was killed." in dev.output.read_text()


def pressed_again(dev: Dev) -> bool:
    """Signals that come before the first was handled are one: a person presses again too."""
    if dev.process.poll() is None:
        dev.process.send_signal(signal.SIGINT)
    return dev.process.poll() is not None


def is_left_by(process: psutil.Process, dev: Dev) -> bool:
    try:
        return process.cmdline() == ["sleep", "600"] and f"{dev.data_dir}" in process.environ().get("STANDIN_OF", "")
    except psutil.Error:
        return False


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data_dir={file}"], "--data-dir is {file}, which is a file: name a directory."),
        (["data_dir={file}/below"], "--data-dir is {file}/below, which can't be used (not a directory): name another"),
        (["ready_file={folder}"], "--ready-file is {folder}, which can't be written (is a directory): name another."),
        (["ready_file={file}/below"], "--ready-file is {file}/below, which can't be written ("),
    ],
)
def test_a_path_that_can_not_be_used_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Before anything is started."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    given = [argument.format(file=file, folder=folder) for argument in arguments]
    if not given[0].startswith("data_dir"):
        given.append(f"data_dir={tmp_path / 'data'}")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(words.format(file=file, folder=folder))
    assert len(done.stderr.splitlines()) == 1


def test_without_its_extra_dev_names_it_and_not_the_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit status 2, before any directory is made."""
    import importlib.util

    from jobledger.dev.supervisor import run_dev

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "jgo" else find(name, *more))
    assert run_dev(DevOptions(data_dir=tmp_path / "data")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "The embedded Kafka and Postgres need the extra 'dev-stack', of which jgo is not installed: "
        "pip install 'jobledger[dev-stack]'.\n",
    )
    assert not (tmp_path / "data").exists()


def test_an_ephemeral_stack_leaves_nothing_behind(start: Callable[..., Dev]) -> None:
    dev = start("ephemeral=yes")
    document = dev.ready()
    assert Path(document["data_dir"]).is_dir()
    assert dev.end() == 0
    assert not Path(document["data_dir"]).exists()
    assert not dev.data_dir.exists()


def test_no_two_things_share_a_port() -> None:
    places = layout(DevOptions(apis=8, schedulers=9, projectors=9, workers=9))
    assert len(places.named_ports()) == 3 + 8 * 2 + 9 * 3


@pytest.mark.parametrize("wrong", [{"workers": 10}, {"apis": 9}, {"port_base": 65_500}, {"partitions": 0}])
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    name = next(iter(wrong)).replace("_", "-")
    with pytest.raises(BadOptionError, match=f"--{name} is {next(iter(wrong.values()))}: choose"):
        DevOptions(**wrong)  # type: ignore[arg-type]
