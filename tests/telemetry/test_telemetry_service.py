from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from jobledger.telemetry.log_line import SINK
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.service import StandingService, TaskService
from jobledger.telemetry.supervision import run_until_signalled


@pytest.fixture(autouse=True)
def stream() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    configure_logging("worker", "worker-1", to_stream=stream, check_events=True)
    yield stream
    structlog.reset_defaults()
    SINK.configured = False


class Part(StandingService):
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    async def start(self) -> None:
        await super().start()
        self.calls.append(f"start {self.name}")

    async def stop(self) -> None:
        self.calls.append(f"stop {self.name}")
        await super().stop()


class Supervised(Part):
    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__(name, calls)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        await self.failed


def kill_soon(number: signal.Signals = signal.SIGTERM) -> None:
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), number)


def events(stream: io.BytesIO) -> list[tuple[str, str]]:
    return [(line["event"], line["level"]) for line in map(json.loads, stream.getvalue().splitlines())]


@pytest.mark.scenario(
    "a process starts and ends",
    emits=(
        "part_started",
        "part_stopped",
        "process_ready",
        "process_stopping",
        "process_stopped",
    ),
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_parts_start_in_order_and_stop_in_reverse_at_a_signal(number: signal.Signals) -> None:
    configure_logging("worker", "worker-1", "DEBUG", to_stream=io.BytesIO(), check_events=True)
    calls: list[str] = []
    kill_soon(number)
    code = await run_until_signalled(
        [Part("a", calls), Supervised("b", calls)],
        on_ready=lambda: calls.append("ready"),
        on_stopping=lambda: calls.append("stopping"),
    )
    assert code == 0
    assert calls == ["start a", "start b", "ready", "stopping", "stop b", "stop a"]


@pytest.mark.scenario("a part of a process fails", emits=("part_failed",))
@pytest.mark.parametrize("how", ["raise", "return", "cancel"])
async def test_a_part_that_fails_or_ends_stops_the_others_and_the_process_with_1(how: str, stream: io.BytesIO) -> None:
    calls: list[str] = []
    part = Supervised("b", calls)
    loop = asyncio.get_running_loop()
    match how:
        case "raise":
            loop.call_later(0.05, part.failed.set_exception, RuntimeError("lost"))
        case "return":
            loop.call_later(0.05, part.failed.set_result, None)
        case _:
            loop.call_later(0.05, part.failed.cancel)
    assert await run_until_signalled([Part("a", calls), part]) == 1
    assert calls == ["start a", "start b", "stop b", "stop a"]
    assert ("part_failed", "FATAL") in events(stream)
    context = next(json.loads(line)["context"] for line in stream.getvalue().splitlines() if b"part_failed" in line)
    assert context["part"] == "b"
    assert ("lost" if how == "raise" else "ended by itself") in context["error"]


async def test_a_part_that_fails_while_a_later_one_starts_ends_the_process(stream: io.BytesIO) -> None:
    calls: list[str] = []
    part = Supervised("a", calls)

    class Waiting(Part):
        async def start(self) -> None:
            await asyncio.sleep(60)

    asyncio.get_running_loop().call_later(0.05, part.failed.set_exception, RuntimeError("lost"))
    assert await run_until_signalled([part, Waiting("b", calls), Part("c", calls)]) == 1
    assert calls == ["start a", "stop b", "stop a"]
    context = next(json.loads(line)["context"] for line in stream.getvalue().splitlines() if b"part_failed" in line)
    assert (context["part"], context["error"]) == ("a", "lost")


async def test_a_part_that_cannot_start_ends_the_process_with_1_and_what_began_is_stopped(stream: io.BytesIO) -> None:
    calls: list[str] = []

    class Broken(Part):
        async def start(self) -> None:
            raise OSError("port taken")

    assert await run_until_signalled([Part("a", calls), Broken("b", calls), Part("c", calls)]) == 1
    assert calls == ["start a", "stop b", "stop a"]
    assert ("part_failed", "FATAL") in events(stream)


async def test_a_signal_during_the_start_ends_the_start() -> None:
    calls: list[str] = []

    class Slow(Part):
        async def start(self) -> None:
            await asyncio.sleep(60)

    kill_soon()
    assert await run_until_signalled([Part("a", calls), Slow("b", calls), Part("c", calls)]) == 0
    assert calls == ["start a", "stop b", "stop a"]


@pytest.mark.scenario("a part of a process fails", emits=("part_stop_failed",))
async def test_a_part_that_does_not_stop_holds_up_nobody_and_shows_in_the_exit_code(stream: io.BytesIO) -> None:
    calls: list[str] = []

    class Stuck(Part):
        async def stop(self) -> None:
            await asyncio.sleep(60)

    kill_soon()
    assert await run_until_signalled([Part("a", calls), Stuck("b", calls)], stop_timeout=0.05) == 1
    assert calls == ["start a", "start b", "stop a"]
    assert ("part_stop_failed", "ERROR") in events(stream)


def test_a_process_with_a_health_server_ends_cleanly_on_sigterm() -> None:
    code = """
import asyncio, sys
from jobledger.telemetry.health import Health
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.supervision import run_until_signalled

configure_logging("scheduler", "scheduler-1")
server = HealthServer(Health("1"), Metrics("scheduler", instance_id="scheduler-1"), port=0)
sys.exit(asyncio.run(run_until_signalled([server])))
"""
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    started = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    rest = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in started + rest] == [
        "listener_started",
        "process_ready",
        "process_stopping",
        "process_stopped",
    ]
    assert (process.returncode, err) == (0, b"")


class Looking(TaskService):
    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.ended = False

    async def start(self) -> None:
        self._begin(self._look(), "looking")

    async def _look(self) -> None:
        try:
            await asyncio.sleep(0 if self.fails else 3600)
        finally:
            self.ended = True
        raise ValueError("it looked in vain")


async def test_a_part_of_one_task_ends_with_it() -> None:
    """A stop ends the task and is no failure, however often; what the task raises is told by `wait`, not by `stop`."""
    idle = Looking(fails=False)
    await idle.stop()
    await idle.wait()
    for part in (idle, Looking(fails=True)):
        await part.start()
        waiting = asyncio.ensure_future(part.wait())
        await asyncio.sleep(0.01)
        if part.fails:
            with pytest.raises(ValueError, match="in vain"):
                await waiting
        for _ in range(2):
            await part.stop()
        assert part.ended
        if not part.fails:
            await waiting
