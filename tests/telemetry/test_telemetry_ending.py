"""A process ends within its grace whatever its parts and libraries do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import emissions
import pytest

HEAD = """
import asyncio, os, signal, sys, threading, time
from jobledger.telemetry.ending import run_role
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.supervision import run_until_signalled

configure_logging("scheduler", "scheduler-1")

class Part:
    async def start(self): pass
    async def stop(self): pass
    async def wait(self): await asyncio.Event().wait()

async def deaf(seconds=60):
    "Takes no notice of being cancelled."
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            await asyncio.sleep(until - time.monotonic())
        except asyncio.CancelledError:
            pass
"""

TAIL = """
async def run():
    return await run_until_signalled([Part(), Hanging(), Part()], stop_timeout=0.5,
                                     on_ready=lambda: print("ready", flush=True))

sys.exit(run_role(run, grace_seconds=2.0))
"""

CASES = {
    "a start that takes no notice of being cancelled": """
class Hanging(Part):
    async def start(self):
        print("ready", flush=True)
        await deaf()
""",
    "a stop that takes no notice of being cancelled": """
class Hanging(Part):
    async def stop(self): await deaf()
""",
    "a task of a library that takes no notice of being cancelled": """
class Hanging(Part):
    async def start(self): self.task = asyncio.create_task(deaf(), name="of-a-library")
""",
    "a thread that nobody can join": """
class Hanging(Part):
    async def start(self): threading.Thread(target=time.sleep, args=(60,), name="of-a-library").start()
""",
    "a call in the pool that does not come back": """
class Hanging(Part):
    async def start(self): self.call = asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
""",
    "a loop that does not turn": """
class Hanging(Part):
    async def start(self): asyncio.get_running_loop().call_later(0.3, time.sleep, 60)
""",
}


def started(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    while process.stdout.readline().strip() != b"ready":
        assert process.poll() is None, process.stderr.read() if process.stderr else b""
    return process


def lines(out: bytes) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    for line in found:
        emissions.note(line["event"])
    return found


@pytest.mark.scenario("a part of a process fails", emits=("process_exit_forced",))
@pytest.mark.parametrize("case", CASES)
def test_a_process_ends_within_its_grace_and_says_what_it_waited_for(case: str) -> None:
    """Whatever hangs, the process is gone soon after the signal, and a log line names what hung."""
    process = started(HEAD + CASES[case] + TAIL)
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=50)
    assert time.monotonic() - begun < 25
    (forced,) = [line for line in lines(out) if line["event"] == "process_exit_forced"]
    assert forced["level"] == "ERROR"
    assert forced["context"]["waited_for"], (out, err)
    assert process.returncode == forced["context"]["exit_code"]
    if "of-a-library" in CASES[case]:
        assert any("of-a-library" in name for name in forced["context"]["waited_for"])
        assert process.returncode == 0, "all parts of ours had stopped"


def test_a_part_that_ends_by_itself_ends_the_process_although_a_library_hangs() -> None:
    """The exit code says that something failed, and what hangs does not hold it back."""
    code = """
class Hanging(Part):
    async def start(self):
        self.task = asyncio.create_task(deaf())
    async def wait(self):
        print("ready", flush=True)
        await asyncio.sleep(0.2)
"""
    process = started(HEAD + code + TAIL)
    out, _ = process.communicate(timeout=50)
    assert process.returncode == 1
    assert {"part_failed", "process_exit_forced"} <= {line["event"] for line in lines(out)}


def test_a_second_signal_while_the_process_winds_up_changes_nothing() -> None:
    """Neither its exit status nor that it is a clean end."""
    process = started(
        HEAD
        + "class Hanging(Part): pass\n"
        + TAIL.replace(
            "sys.exit(run_role(run, grace_seconds=2.0))",
            """
status = run_role(run, grace_seconds=2.0)
print("wound up", flush=True)
time.sleep(0.5)
sys.exit(status)
""",
        )
    )
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    while process.stdout.readline().strip() != b"wound up":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(50) == 0
    process.communicate()


def test_a_clean_end_is_not_cut_short() -> None:
    """Nothing hangs: no forced exit, and status 0."""
    process = started(HEAD + "class Hanging(Part): pass\n" + TAIL)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, b"")
    assert "process_exit_forced" not in {line["event"] for line in lines(out)}
