"""What runs stops when nobody may run it: worker killed, worker stopped, Kafka away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_worker_runtime import _until_gone, _written
from worker_cell import PARTITIONS, WorkerCell

from jobledger.dev.kafka import KafkaBroker
from jobledger.domain.job.commands import ReportFailed, ReportStarted, ReportSucceeded
from jobledger.domain.queue.commands import SetCredits
from jobledger.domain.values import RetryPolicy

pytestmark = pytest.mark.kafka
#: Once lost, it is not tried again.
ONCE = RetryPolicy(max_attempts=1)
TESTS = Path(__file__).parents[1]
RUN = (
    "import asyncio; from jobledger.settings import Settings; from jobledger.bootstrap.worker import run; "
    "raise SystemExit(asyncio.run(run(Settings())))"
)


@pytest.fixture
def lease_seconds() -> float:
    """The owners count as the workers do."""
    return 5.0


@pytest.fixture
def worker_process(owners: WorkerCell, lease_seconds: float, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process; its lease is long enough for a busy machine not to end it."""
    env = {
        **os.environ,
        "JOBLEDGER_CELL": owners.cell,
        "JOBLEDGER_PARTITIONS": str(PARTITIONS),
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": owners.kafka.bootstrap_servers,
        "JOBLEDGER_HANDLERS": "sample_handlers",
        "JOBLEDGER_INSTANCE_ID": "w-1",
        "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "0.3",
        "JOBLEDGER_LEASE_SECONDS": str(lease_seconds),
        "JOBLEDGER_HEALTH_PORT": "0",
        "PYTHONPATH": str(TESTS),
    }
    with (tmp_path / "worker.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", RUN], env=env, stdout=output, stderr=output)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()


async def test_processes_die_with_a_killed_worker(owners: WorkerCell, worker_process: Any, tmp_path: Path) -> None:
    """kill -9 of the worker: its handler's process, and what that has started, are gone within moments."""
    await owners.registered("w-1")
    await owners.run("j1", "spin", str(tmp_path / "pids"), timeout_seconds=60.0)
    pids = await _written(tmp_path / "pids")
    worker_process.kill()
    for pid in pids:
        await _until_gone(pid, 2.0)


async def test_stopped_worker_has_no_running_processes_after_its_lease(
    owners: WorkerCell, worker_process: Any, tmp_path: Path
) -> None:
    """SIGSTOP of the worker: its handler's process ends itself at the end of the lease, not before and not later.

    After SIGCONT the worker reports nothing of that task and begins anew as another incarnation.
    """
    incarnation = await owners.registered("w-1")
    await owners.run("j1", "stubborn", str(tmp_path / "pid"), retry=ONCE)
    (pid,) = await _written(tmp_path / "pid")
    await asyncio.sleep(5.5)  # the lease has been renewed several times
    os.kill(pid, 0)
    worker_process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    await _until_gone(pid, 6.0)
    assert 4.0 < time.monotonic() - stopped < 5.3
    # A heartbeat that was on its way when the worker was stopped prolongs its lease, but no further than this.
    await asyncio.sleep(stopped + 5.3 - time.monotonic())
    worker_process.send_signal(signal.SIGCONT)
    await owners.registered("w-1", after=incarnation)
    await owners.run("j2", "square", 3)
    await owners.report(ReportSucceeded, "j2")
    assert owners.of(ReportFailed, "j1") == []


async def test_sigterm_drains_and_exits_with_0(owners: WorkerCell, worker_process: Any) -> None:
    await owners.registered("w-1")
    await owners.run("j1", "sleepy", 1.0)
    await owners.report(ReportStarted, "j1")
    worker_process.terminate()
    await owners.report(ReportSucceeded, "j1")
    assert await asyncio.to_thread(worker_process.wait, 15) == 0
    assert [body.credits for body in owners.of(SetCredits)][-1] == 0


@pytest.mark.scenario(
    "Kafka goes away",
    emits=(
        "queue_connection_lost",
        "queue_connection_restored",
        "scheduler_queue_connection_errors_total",
        "lease_uncertain",
        "task_dropped",
        "worker_lost",
        "owner_reopened",
        "jobledger_owner_reopened_total",
    ),
)
@pytest.mark.scenario("a job runs")
@pytest.mark.scenario(
    "a worker is started",
    emits=(
        "worker_cpu_usage_percent",
        "worker_memory_usage_bytes",
    ),
)
@pytest.mark.parametrize("lease_seconds", [4.0])
async def test_without_kafka_handlers_go_on_until_the_lease_ends(
    kafka_broker: KafkaBroker, owners: WorkerCell, start_worker: Any, tmp_path: Path
) -> None:
    """Kafka away: a report waits and arrives, what runs longer than the lease is stopped and never reported.

    Once Kafka is back the worker registers as a new incarnation and runs tasks again.
    """
    _, incarnation = await start_worker(lease_seconds=4.0)
    await owners.run("short", "sleepy", 1.5)
    await owners.run("long", "sleepy", 30.0, retry=ONCE)
    await owners.run("killed", "stubborn", str(tmp_path / "pid"), retry=ONCE)
    (pid,) = await _written(tmp_path / "pid")
    await owners.report(ReportStarted, "long")
    await asyncio.to_thread(kafka_broker.stop)
    await _until_gone(pid, 6.0)
    await asyncio.to_thread(kafka_broker.start)
    await owners.report(ReportSucceeded, "short", 30.0)
    await owners.registered("w-1", after=incarnation)
    await owners.run("next", "square", 3)
    await owners.report(ReportSucceeded, "next", 30.0)
    for job in ("long", "killed"):
        assert owners.of(ReportFailed, job) == owners.of(ReportSucceeded, job) == []
