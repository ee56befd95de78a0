"""`make bench` and `make bench-quick`: every figure of the product, measured on this machine in one run."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import calibration
import latency
import recovery
import throughput
from figures import spread, table, write
from stack import BenchStack

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    samples: int
    jobs: int
    late_at: int
    waiting: int


FULL = Size(rounds=3, samples=200, jobs=20_000, late_at=200_000, waiting=100_000)
QUICK = Size(rounds=1, samples=50, jobs=5_000, late_at=0, waiting=10_000)


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _rounds(size: Size, measure: Callable[[], Any]) -> list[Any]:
    return [measure() for _ in range(size.rounds)]


def _calibrate(stack: BenchStack) -> dict[str, float]:
    topic = "jobledger.quarantine"
    return {
        "calibration_cpu_loop_seconds": round(calibration.cpu_loop_seconds(), 3),
        "calibration_fsync_p50_ms": round(calibration.fsync_p50_ms(), 2),
        "calibration_broker_commit_p50_ms": round(
            calibration.broker_commit_p50_ms(stack.ready["kafka_bootstrap_servers"], topic), 2
        ),
    }


def _latencies(stack: BenchStack, size: Size) -> dict[str, float]:
    latency.submissions(stack, 100)  # warm up: connections, code paths, the broker's compiler
    _say("latency of submissions")
    pairs = _rounds(size, lambda: latency.submissions(stack, size.samples))
    results = spread("mutation", [pair[0] for pair in pairs])
    results |= spread("submit_to_start", [pair[1] for pair in pairs])
    _say("latency of due jobs")
    results |= spread("due_to_start", _rounds(size, lambda: latency.due(stack, size.samples // 2)))
    _say("a herd of 200")
    results["herd_200_last_ms"] = round(statistics.median(_rounds(size, lambda: latency.herd(stack))), 1)
    _say("visibility and subscriptions")
    results |= spread("done_to_visible", _rounds(size, lambda: latency.visible(stack, size.samples // 2)))
    results |= spread("event_to_subscription", _rounds(size, lambda: latency.subscription(stack, size.samples // 2)))
    return results


def _throughput(stack: BenchStack, size: Size) -> dict[str, float]:
    throughput.run(stack, 2_000)
    _say(f"{size.rounds} x {size.jobs} jobs")
    early = _rounds(size, lambda: throughput.run(stack, size.jobs))
    results = {"throughput_jobs_per_second": round(statistics.median(r.jobs_per_second for r in early), 1)}
    per_command = [r.cpu_seconds["scheduler-1"] * 1000 / r.commands for r in early]
    results["scheduler_cpu_ms_per_command"] = round(statistics.median(per_command), 4)
    middle = sorted(early, key=lambda r: r.jobs_per_second)[len(early) // 2]
    for name, seconds in middle.cpu_seconds.items():
        results[f"cpu_ms_per_job_{name.replace('-', '_')}"] = round(seconds * 1000 / middle.jobs, 4)
    results["scheduler_rss_mb_early"] = round(stack.rss_bytes("scheduler-1") / 1e6, 1)
    _say("projector on a backlog")
    backlog = _rounds(size, lambda: recovery.projector_events_per_second(stack, max(size.jobs, 10_000)))
    results["projector_events_per_second"] = round(statistics.median(backlog), 1)
    if size.late_at:
        done = 2_000 + 2 * size.rounds * size.jobs
        _say(f"on to {size.late_at} jobs")
        throughput.run(stack, max(0, size.late_at - done))
        late = statistics.median(r.jobs_per_second for r in _rounds(size, lambda: throughput.run(stack, size.jobs)))
        results["throughput_late_jobs_per_second"] = round(late, 1)
        results["throughput_late_ratio"] = round(late / results["throughput_jobs_per_second"], 3)
        results["scheduler_rss_mb_late"] = round(stack.rss_bytes("scheduler-1") / 1e6, 1)
    return results


def _recovery(stack: BenchStack, size: Size) -> dict[str, float]:
    _say(f"{size.waiting} waiting jobs on one partition")
    results = {"scheduler_bytes_per_waiting_job": round(recovery.bytes_per_waiting_job(stack, size.waiting), 1)}
    _say("takeovers")
    takeovers = _rounds(size, lambda: recovery.takeover_seconds(stack))
    name = "takeover_seconds_100k" if size.waiting == 100_000 else f"takeover_seconds_{size.waiting // 1000}k"
    results[name] = round(statistics.median(t[0] for t in takeovers), 3)
    results[f"{name}_since_kill"] = round(statistics.median(t[1] for t in takeovers), 2)
    return results


def main() -> int:
    """Measure, print the table, write `benchmarks/out/bench.json`; 0 when everything could be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and jobs: about two minutes")
    size = QUICK if parser.parse_args().quick else FULL
    started = time.monotonic()
    results: dict[str, Any] = {}
    with BenchStack() as stack:
        _say("stack is ready")
        results["dev_ready_seconds"] = round(time.monotonic() - started, 1)
        results |= _calibrate(stack)
        results |= _latencies(stack, size)
        results |= _throughput(stack, size)
        results |= _recovery(stack, size)
    results["bench_seconds"] = round(time.monotonic() - started, 1)
    write(OUT / ("bench-quick.json" if size is QUICK else "bench.json"), results)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
