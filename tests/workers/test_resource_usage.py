"""What a worker says of the processor time and the memory that it and its pool take."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from jobledger.telemetry.metrics import Metrics
from jobledger.workers.usage import ResourceUsage

MIB = 1024 * 1024
BUSY = f"""
held = b"x" * {64 * MIB}
print(flush=True)
while True:
    pass
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps a processor busy and 64 MiB of memory."""
    process = subprocess.Popen([sys.executable, "-S", "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _shown(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"worker_id": "w-1", "pool": "blue"})


def test_the_pool_s_processes_count_in_the_worker_s_usage(busy: subprocess.Popen[bytes]) -> None:
    metrics = Metrics("worker", instance_id="w-1", pool="blue", strict=True)
    pids = [busy.pid]
    usage = ResourceUsage(metrics, lambda: pids)
    usage.look()
    assert _shown(metrics, "worker_cpu_usage_percent") is None, "nothing is known of a time that has not passed"
    own = psutil.Process().memory_info().rss
    assert (_shown(metrics, "worker_memory_usage_bytes") or 0) > own + 48 * MIB
    used = psutil.Process(busy.pid).cpu_times().user
    deadline = time.monotonic() + 30
    while psutil.Process(busy.pid).cpu_times().user - used < 0.2 and time.monotonic() < deadline:
        time.sleep(0.02)
    usage.look()
    assert (_shown(metrics, "worker_cpu_usage_percent") or 0) > 0.5
    busy.kill()
    busy.wait()
    usage.look()
    assert 0 < (_shown(metrics, "worker_memory_usage_bytes") or 0) < own + 48 * MIB
