"""What this machine can do, measured beside every run: figures of a noisy machine mean little without it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from figures import percentile

from jobledger.eventlog.clients import producer_config
from jobledger.settings import KafkaSettings


def cpu_loop_seconds(turns: int = 5_000_000) -> float:
    """Seconds of wall time that a plain loop of additions takes."""
    started = time.perf_counter()
    total = 0
    for number in range(turns):
        total += number
    return time.perf_counter() - started


def fsync_p50_ms(rounds: int = 100) -> float:
    """Median of writing 4 KiB and syncing it."""
    times = []
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "sync").open("wb") as file:
        for _ in range(rounds):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return percentile(times, 0.5)


def broker_commit_p50_ms(bootstrap: str, topic: str, rounds: int = 50) -> float:
    """Median of one acknowledged record (acks=all), one at a time."""
    producer = Producer(producer_config(KafkaSettings(bootstrap_servers=bootstrap), "calibration"))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        producer.produce(topic, b"[]", partition=0)
        producer.flush()
        times.append((time.perf_counter() - started) * 1000)
    return percentile(times, 0.5)
