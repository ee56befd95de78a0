"""Scheduler processes whose wall clock jumps or drifts while they serve, moved by a file; the broker's stays right."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_cell import LogCell, submit, until
from role_forks import ForkedRole, RoleForks

from jobledger.domain.job.events import TaskReady
from jobledger.schemas.outcomes import OutcomeStatus

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

#: Longer than the clocks' bound and the round trips of probes on a loaded machine.
TOO_EARLY_MS = 60_000
HOUR_MS = 3_600_000


class FakedScheduler:
    """A scheduler process whose wall clock another one moves; its monotonic time stays right."""

    def __init__(self, cell: LogCell, name: str, directory: Path, forks: RoleForks) -> None:
        self.name = name
        self._forks = forks
        self._clock = directory / f"{name}.clock"
        self._out = directory / f"{name}.log"
        self.set(0)
        self._environment = {
            **os.environ,
            "JOBLEDGER_CELL": cell.cell,
            "JOBLEDGER_PARTITIONS": str(cell.partitions),
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_INSTANCE_ID": name,
            "JOBLEDGER_HEALTH_PORT": "0",
            "JOBLEDGER_SESSION_TIMEOUT_SECONDS": "6",
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": cell.kafka.bootstrap_servers,
            "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
            "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
            "JOBLEDGER_CLOCK_OFFSET_FILE": str(self._clock),
        }
        self.process: ForkedRole | None = None

    def set(self, offset_ms: int) -> None:
        """Set its wall clock wrong by that much; in one step, since it is read all the time."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(offset_ms))
        new.replace(self._clock)

    def start(self) -> None:
        self.process = self._forks.start("scheduler", self._environment, self._out)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        found = []
        for line in self._out.read_text().splitlines():
            if line.startswith("{") and (entry := json.loads(line))["event"] == name:
                found.append(entry)
        return found

    @property
    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self) -> None:
        if self.process is not None and not self.ended:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def output(self) -> str:
        return self._out.read_text()


StartFaked = Callable[[str], FakedScheduler]


@pytest.fixture(scope="module")
def forks() -> Iterator[RoleForks]:
    """What a start imports is imported once for the file."""
    one = RoleForks(os.environ)
    yield one
    one.close()


@pytest.fixture
def start_faked(log_cell: LogCell, tmp_path: Path, forks: RoleForks) -> Iterator[StartFaked]:
    """Starts schedulers with clocks of their own; they are stopped at the end."""
    started: list[FakedScheduler] = []

    def start(name: str) -> FakedScheduler:
        one = FakedScheduler(log_cell, name, tmp_path, forks)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.stop()
        print(f"{one.name}:\n{one.output()}")  # shown when the test fails


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ready(cell: LogCell, stream: str) -> list[Any]:
    return [e for e in cell.events(0) if e.originator_id == stream and isinstance(e.data, TaskReady)]


async def accepted(cell: LogCell, partition: int = 0, due_at_ms: int | None = None) -> str:
    """Submit until it is accepted: while nobody serves the partition the command waits in the log."""
    stream = cell.job_on(partition)
    sent = await cell.send(stream, submit(queue=cell.queue_on(partition), due_at_ms=due_at_ms))
    assert (await cell.outcome(sent, seconds=90)).status is OutcomeStatus.ACCEPTED
    return stream


def stamps_are_right(cell: LogCell) -> bool:
    return all(abs(e.at_ms - now_ms()) < 5 * TOO_EARLY_MS for p in range(cell.partitions) for e in cell.events(p))


async def drift(scheduler: FakedScheduler) -> None:
    """A clock that runs a fifth too fast, until the process has ended."""
    began = time.monotonic()
    while not scheduler.ended and time.monotonic() - began < 60:
        scheduler.set(round((time.monotonic() - began) * 200))
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, HOUR_MS // 6, -HOUR_MS // 6, None], ids=str)
async def test_a_clock_that_goes_wrong_costs_the_process_its_partitions_and_nothing_else(
    log_cell: LogCell, start_faked: StartFaked, jump_ms: int | None
) -> None:
    """Nothing starts early, nothing stands still, all alarms; it ends, and another one serves at once."""
    first = start_faked("scheduler-1")
    later = await accepted(log_cell, due_at_ms=now_ms() + 1_800_000)
    if jump_ms is None:
        await drift(first)
    else:
        first.set(jump_ms)
    await until(lambda: first.ended, 60, pause=0.2)
    assert first.process is not None and first.process.returncode == 1
    assert first.events("clock_skewed") and "from the broker's, more than 500 ms" in first.output()
    second = start_faked("scheduler-2")
    soon = await accepted(log_cell, due_at_ms=now_ms() + 3_000)
    await until(lambda: ready(log_cell, soon), 60, pause=0.2)
    assert not ready(log_cell, later)
    assert stamps_are_right(log_cell)
    assert not second.events("partition_time_ahead")
    for partition in range(log_cell.partitions):
        assert await asyncio.to_thread(log_cell.differences, partition) == []


@pytest.mark.scenario(
    "a process starts and ends",
    emits=(
        "process_started",
        "process_ready",
        "process_stopping",
        "process_stopped",
        "listener_started",
        "jobledger_build_info",
    ),
)
@pytest.mark.scenario(
    "the clock is wrong",
    emits=(
        "clock_skewed",
        "clock_right",
    ),
)
async def test_partitions_go_to_a_scheduler_whose_clock_is_right_and_come_back(
    log_cell: LogCell, start_faked: StartFaked
) -> None:
    """Two serve; the clock of one jumps: the other takes all; started anew and set right it serves again."""
    one, other = start_faked("scheduler-1"), start_faked("scheduler-2")
    for scheduler in (one, other):
        await until(lambda s=scheduler: s.events("leadership_acquired"), 90, pause=0.2)  # type: ignore[misc]
    one.set(HOUR_MS)
    await until(lambda: one.ended, 60, pause=0.2)
    for partition in range(log_cell.partitions):
        await accepted(log_cell, partition)
    one.start()
    await until(lambda: len(one.events("clock_skewed")) == 2, 60, pause=0.2)
    one.set(0)
    if one.ended:
        one.start()
    before = len(one.events("leadership_acquired"))
    await until(lambda: len(one.events("leadership_acquired")) > before, 90, pause=0.2)
    for partition in range(log_cell.partitions):
        await accepted(log_cell, partition)
    assert stamps_are_right(log_cell) and not other.ended


async def test_a_step_that_is_set_right_at_once_takes_nobody_s_partitions(
    log_cell: LogCell, start_faked: StartFaked
) -> None:
    """Owners stop for the moment and go on by themselves, in the same process."""
    only = start_faked("scheduler-1")
    await accepted(log_cell)
    only.set(HOUR_MS)
    await until(lambda: only.events("clock_skewed"), 30, pause=0.02)
    only.set(0)
    await accepted(log_cell)
    await until(lambda: only.events("clock_right"), 30)
    assert not only.ended and stamps_are_right(log_cell)
