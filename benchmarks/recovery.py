"""A backlog for the projector, memory of waiting jobs, and how soon a partition is served again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import psycopg
from stack import BenchStack
from throughput import submit
from uuid_utils.compat import uuid7

from jobledger.domain.identity import job_stream, partition_of
from jobledger.domain.job.commands import SubmitJob
from jobledger.domain.values import Actor, ActorKind, Opaque
from jobledger.eventlog.clients import producer_config
from jobledger.eventlog.producer import CommandProducer, RecordProducer
from jobledger.schemas.commands import Command
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings

CELL = "jobledger"
PARTITIONS = 4
LIMIT_SECONDS = 300.0
MIN_STEPS = 3
POSITION = "SELECT sum(seq) FROM jobledger.positions"


def projector_events_per_second(stack: BenchStack, jobs: int) -> float:
    """Stop the projector, let `jobs` run, wake it: events a second from its first to its last step."""
    done = stack.metric("scheduler-1", "executions_completed_total")
    pid = stack.role("projector-1")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        submit(stack, jobs)
        _until(lambda: stack.metric("scheduler-1", "executions_completed_total") - done >= jobs)
    finally:
        os.kill(pid, signal.SIGCONT)
    return _rate(stack, _position(stack))


def _rate(stack: BenchStack, stalled_at: int) -> float:
    """Events a second from the projector's first step to its last; its way back into the group is not counted."""
    with psycopg.connect(stack.ready["postgres_dsn"], autocommit=True) as connection:
        steps: list[tuple[float, int]] = []
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(steps) < MIN_STEPS or time.perf_counter() - steps[-1][0] < 2:
            now = connection.execute(POSITION).fetchone()
            position = int(now[0]) if now else 0
            if position > (steps[-1][1] if steps else stalled_at):
                steps.append((time.perf_counter(), position))
            if time.monotonic() > deadline:
                raise RuntimeError(f"The projector took {len(steps)} steps in {LIMIT_SECONDS:.0f} s.")
            time.sleep(0.002)
    return (steps[-1][1] - steps[0][1]) / (steps[-1][0] - steps[0][0])


def _position(stack: BenchStack) -> int:
    return int(stack.sql(POSITION) or 0)


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not reached within {LIMIT_SECONDS:.0f} s.")
        time.sleep(0.02)


def bytes_per_waiting_job(stack: BenchStack, jobs: int) -> float:
    """Growth of a fresh scheduler's memory by `jobs` jobs of one partition that wait in their queue."""
    restart_scheduler(stack)
    time.sleep(2)
    before = stack.rss_bytes("scheduler-1")
    asyncio.run(_submit_to_partition_0(stack.ready["kafka_bootstrap_servers"], jobs))
    _until(lambda: stack.metric("scheduler-1", "queue_messages_enqueued_total") >= jobs)
    time.sleep(2)
    return (stack.rss_bytes("scheduler-1") - before) / jobs


async def _submit_to_partition_0(bootstrap: str, jobs: int) -> None:
    """Commands straight into the log: the api would spread the jobs over all partitions."""
    producer = RecordProducer(producer_config(KafkaSettings(bootstrap_servers=bootstrap), "bench"))
    await producer.start()
    commands = CommandProducer(producer, topic_name(CELL, Topic.COMMANDS), PARTITIONS)
    body = SubmitJob(handler="nobody_serves_this", queue="default", payload=Opaque('"' + "x" * 198 + '"'))
    actor = Actor(ActorKind.USER, "bench")
    sent: list[asyncio.Future[None]] = []
    while len(sent) < jobs:
        job_id = str(uuid7())
        stream = job_stream("default", job_id)
        if partition_of(stream, PARTITIONS) == 0:
            sent.append(commands.send(Command(id=job_id, stream=stream, actor=actor, body=body)))
            if len(sent) % 5000 == 0:
                await asyncio.gather(*sent[-5000:])
    await asyncio.gather(*sent)
    await producer.stop()


def restart_scheduler(stack: BenchStack) -> float:
    """kill -9; seconds until the new process serves all partitions again, by the supervisor's restart."""
    old = stack.role("scheduler-1")
    started = time.monotonic()
    os.kill(old["pid"], signal.SIGKILL)
    _until(lambda: stack.role("scheduler-1")["pid"] not in (0, old["pid"]))
    _until(lambda: _served(stack) == PARTITIONS)
    return time.monotonic() - started


def _served(stack: BenchStack) -> float:
    try:
        return stack.metric("scheduler-1", "jobledger_partition_served")
    except OSError:
        return 0


def takeover_seconds(stack: BenchStack) -> tuple[float, float]:
    """After a kill -9: seconds from assignment to service of the fullest partition, and from the kill."""
    whole = restart_scheduler(stack)
    lines = Path(stack.role("scheduler-1")["log"]).read_text().splitlines()
    recovered = [json.loads(line)["context"] for line in lines if '"partition_recovered"' in line]
    return max(context["duration_ms"] for context in recovered[-PARTITIONS:]) / 1000, whole
