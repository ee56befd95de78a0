"""No child outlives its starter, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jobledger.dev.child import ChildFailedError, GuardedChild

STARTER = """
import sys, time
from pathlib import Path
from jobledger.dev.child import GuardedChild
child = GuardedChild(sys.argv[2:], Path(sys.argv[1]), grace_seconds=1)
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]
ROLE = """
import os, subprocess, sys, time
read, write = os.pipe()
env = {**os.environ, "JOBLEDGER_PARENT_FD": str(read)}
code = "from jobledger.dev.parent import die_with_parent; die_with_parent(); print('up', flush=True)"
code += "; import time; time.sleep(60)"
role = subprocess.Popen([sys.executable, "-c", code], env=env, pass_fds=(read,), stdout=subprocess.PIPE)
role.stdout.readline()
print(role.pid, flush=True)
time.sleep(60)
"""


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def start(program: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    starter = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    return starter, int(starter.stdout.readline())


def end(starter: subprocess.Popen[str]) -> None:
    starter.kill()
    starter.wait()
    assert starter.stdout is not None
    starter.stdout.close()


@pytest.mark.parametrize("command", [["sleep", "60"], STUBBORN], ids=["obedient", "ignores SIGTERM"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_guarded_child_ends_after_kill_9_of_its_starter(tmp_path: Path, command: list[str], stopped: bool) -> None:
    starter, child = start(STARTER, str(tmp_path / "log"), *command)
    guard = psutil.Process(child).ppid()
    if stopped:
        os.kill(child, signal.SIGSTOP)
    end(starter)
    assert eventually(lambda: not psutil.pid_exists(child) and not psutil.pid_exists(guard))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a child together with its parent")
def test_a_guarded_child_ends_after_kill_9_of_its_guard(tmp_path: Path) -> None:
    starter, child = start(STARTER, str(tmp_path / "log"), "sleep", "60")
    os.kill(psutil.Process(child).ppid(), signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(child))
    end(starter)


def test_a_role_ends_after_kill_9_of_its_supervisor() -> None:
    starter, role = start(ROLE)
    end(starter)
    assert eventually(lambda: not psutil.pid_exists(role))


def test_the_exit_status_of_a_child_is_seen(tmp_path: Path) -> None:
    failed = GuardedChild(["sh", "-c", "echo why it failed; exit 7"], tmp_path / "log")
    assert failed.wait(10) == 7
    assert "why it failed" in failed.log_tail()
    killed = GuardedChild(["sleep", "60"], tmp_path / "log")
    assert killed.exit_code is None
    assert killed.kill() == 128 + signal.SIGKILL


def test_a_child_that_ignores_the_request_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    child = GuardedChild(STUBBORN, tmp_path / "log", grace_seconds=0.3)
    time.sleep(0.3)  # until it ignores the signal
    assert child.stop() == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ChildFailedError, match="could not be started"):
        GuardedChild([str(tmp_path / "nothing")], tmp_path / "log")
