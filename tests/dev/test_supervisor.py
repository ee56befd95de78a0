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

from jobledger.dev.options import BadOptionError, DevOptions, layout
from jobledger.dev.ports import is_free

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
                env={**os.environ, **environment},
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


def free_port_base() -> int:
    while True:
        base = random.randrange(20_000, 32_000, 100)
        if all(is_free(port) for port in layout(DevOptions(port_base=base, workers=2)).named_ports()):
            return base


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


def test_the_ready_file_names_a_stack_that_answers_and_goes_away_with_it(start: Callable[..., Dev]) -> None:
    began = time.monotonic()
    dev = start("workers=2")
    document = dev.ready()
    assert time.monotonic() - began < 20
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
    assert "worker-2 started" in (dev.data_dir / "logs" / "worker-2.log").read_text()
    assert dev.end() == 0
    wait_until_gone(pids(document), 0.5)
    assert not dev.ready_file.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_workers_and_api_stop_before_scheduler_and_projector(
    start: Callable[..., Dev], tmp_path: Path, how: signal.Signals
) -> None:
    order = tmp_path / "order"
    dev = start(STANDIN_ORDER=str(order))
    dev.ready()
    assert dev.end(how) == 0
    ended = order.read_text().split()
    assert set(ended[:2]) == {"worker-1", "api-1"}
    assert set(ended[2:]) == {"scheduler-1", "projector-1"}


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


def test_a_killed_role_is_started_again_and_the_ready_file_follows(start: Callable[..., Dev]) -> None:
    dev = start()
    former = {role["instance_id"]: role["pid"] for role in dev.ready()["roles"]}
    os.kill(former["worker-1"], signal.SIGKILL)
    document = dev.ready(lambda seen: former["worker-1"] not in pids(seen) and 0 not in pids(seen))
    now = {role["instance_id"]: role["pid"] for role in document["roles"]}
    assert now.pop("worker-1") != former.pop("worker-1")
    assert now == former
    assert "worker-1 ended with signal 9; it starts again in 0.5 s." in dev.output.read_text()


def test_a_killed_broker_and_postgres_are_started_again(start: Callable[..., Dev]) -> None:
    dev = start()
    former = dev.ready()
    os.kill(former["broker"]["pid"], signal.SIGKILL)
    os.kill(former["postgres"]["pid"], signal.SIGKILL)
    document = dev.ready(lambda seen: all(seen[name] != former[name] for name in ("broker", "postgres")))
    with psycopg.connect(document["postgres_dsn"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert dev.end() == 0


def test_a_stop_request_during_the_start_is_obeyed(start: Callable[..., Dev]) -> None:
    dev = start()
    deadline = time.monotonic() + 20
    while not (dev.data_dir / "kafka" / "server.properties").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(dev.process.pid).children(recursive=True)
    assert dev.end() == 0
    wait_until_gone({child.pid for child in children}, 1)


def test_a_second_dev_on_the_same_directory_is_refused(start: Callable[..., Dev]) -> None:
    first = start()
    first.ready()
    second = start()
    assert second.process.wait(20) == 2
    assert f"used by another jobledger dev (process {first.process.pid}): stop it" in second.output.read_text()
    assert first.process.poll() is None


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


@pytest.mark.parametrize("wrong", [{"workers": 10}, {"apis": 9}, {"port_base": 65_500}])
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    name = next(iter(wrong)).replace("_", "-")
    with pytest.raises(BadOptionError, match=f"--{name} is {next(iter(wrong.values()))}: choose"):
        DevOptions(**wrong)  # type: ignore[arg-type]
