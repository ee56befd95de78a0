"""kill -9 of workers: nothing that they have started goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobledger.dev.descendants import Descendants
from jobledger.domain.spec import TaskSpec
from jobledger.domain.values import Opaque
from jobledger.workers.lease import SharedDeadline
from jobledger.workers.pool_protocol import LENGTH, Run, Setup, frame
from jobledger.workers.task_info import TaskInfo

ROUNDS, WORKERS = 4, 5


@pytest.mark.kafka
async def test_nothing_outlives_a_killed_worker(
    owners: Any, start_role: Any, started: Descendants, tmp_path: Path
) -> None:
    """kill -9 at twenty random moments, with handlers running that say a lot and have started programs."""
    chance = random.Random(11)
    for round_ in range(ROUNDS):
        names = [f"k-{round_}-{number}" for number in range(WORKERS)]
        workers = {name: start_role(name, JOBLEDGER_WORKER_QUEUES=name) for name in names}
        for name, process in workers.items():
            await owners.registered(name)
            for number, handler in enumerate(["family", "stubborn", "family", "bereft"]):
                job = f"{name}-{number}"
                await owners.run(job, handler, str(tmp_path / job), queue=name)
            await asyncio.sleep(chance.uniform(0, 0.6))
            process.kill()
            process.wait()
    assert await asyncio.to_thread(started.left_after, 20.0) == []


@pytest.mark.kafka
async def test_a_handler_that_keeps_the_interpreter_to_itself_is_ended_too(
    owners: Any, start_role: Any, started: Descendants, tmp_path: Path
) -> None:
    """No thread of its process can run; the process beside the worker ends it."""
    worker = start_role("k-1")
    await owners.registered("k-1")
    await owners.run("j1", "greedy", str(tmp_path / "pid"))
    await asyncio.to_thread(_until, (tmp_path / "pid").exists)
    worker.kill()
    worker.wait()
    assert await asyncio.to_thread(started.left_after, 20.0) == []


def _eof(connection: socket.socket) -> None:
    """The worker's end is closed with nothing unread."""
    _read_until(connection, b"talks")
    connection.close()


def _reset(connection: socket.socket) -> None:
    """The worker's end goes with something unread in it, as after most kills: the other end sees a reset, no end."""
    connection.recv(1)
    connection.close()


def _garbage(connection: socket.socket) -> None:
    """Something that is no message."""
    connection.sendall(LENGTH.pack(3) + b"{{{")


def _read_until(connection: socket.socket, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        seen += connection.recv(65536)


@pytest.fixture
def child(started: Descendants) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A process of the pool, and the worker's end of its socket."""
    deadline = SharedDeadline()
    deadline.set(time.monotonic() + 60)
    ours, theirs = socket.socketpair()
    code = f"import sys; sys.path[:] = {sys.path!r}; from jobledger.workers.pool_child import main; main()"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), str(deadline.descriptor)],
            env={**os.environ, **started.environment},
            pass_fds=(theirs.fileno(), deadline.descriptor),
            start_new_session=True,
        )
    yield ours, process
    process.kill()
    process.wait()
    ours.close()
    deadline.close()


@pytest.mark.parametrize("cut", [_eof, _reset, _garbage])
def test_a_process_ends_with_its_connection(
    cut: Any, child: tuple[socket.socket, subprocess.Popen[bytes]], started: Descendants, tmp_path: Path
) -> None:
    """Whatever ends the reading of the pipe ends the process, the threads and the programs of its handler."""
    connection, process = child
    connection.sendall(frame(Setup(path=sys.path, modules=["sample_handlers"], instance_id="w", log_level="INFO")))
    _read_until(connection, b"Ready")
    written = tmp_path / "child"
    info = TaskInfo(
        job_id="j",
        tenant="t",
        task="main",
        execution_id="e",
        attempt=1,
        assignment=1,
        spec=TaskSpec(handler="family", payload=Opaque(json.dumps(str(written)))),
        queue="q",
        worker="w",
    )
    connection.sendall(frame(Run(info=info)))
    _until(written.exists)
    cut(connection)
    process.wait(10)
    assert started.left_after(5.0) == []


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
