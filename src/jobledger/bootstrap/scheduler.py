"""The role `jobledger scheduler`: owners of partitions, in a Faust app (`processors/app.py`)."""

from __future__ import annotations

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor

from jobledger.bootstrap.dependencies import add_queue
from jobledger.bootstrap.process import Process
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.checks import SchedulerChecks
from jobledger.processors.clock import make_clock
from jobledger.processors.scheduler import Scheduler
from jobledger.processors.turns import TurnWatch
from jobledger.settings import Settings
from jobledger.telemetry.ending import run_role

THREADS = 64
#: Whose lines below WARNING are left out; our processors are the classes of Faust and mode that are derived there.
LIBRARIES = ("faust", "mode", "aiokafka", "abc", "jobledger.processors")
#: From the signal to the end of the process: nothing is lost when it is cut short, and others wait for its partitions.
#: The app of the scheduler keeps a shorter time of its own.
GRACE_SECONDS = 10.0
#: A batch makes thousands of short-lived objects and no cycles; waiting jobs are bytes, which are not tracked.
GC_THRESHOLDS = (50_000, 20, 50)


async def run(settings: Settings) -> int:
    """Run a scheduler until SIGTERM; returns the exit status."""
    process = Process.of("scheduler", settings)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    gc.set_threshold(*GC_THRESHOLDS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "scheduler"))
    kafka = settings.kafka
    durability = Durability(
        replication_factor=kafka.replication_factor, min_insync_replicas=kafka.min_insync_replicas, dev=settings.dev
    )
    await asyncio.to_thread(ensure_topics, kafka.client_config(), settings.cell, settings.partitions, durability)
    scheduler = Scheduler(settings, process.metrics, make_clock(settings), process.tracing)
    checks = SchedulerChecks(scheduler, settings.session_timeout_seconds)
    add_queue(process.health, settings, process.instance, checks.depth)
    checks.add_to(process.health)
    watches = [TurnWatch.logging()] if settings.dev else []
    return await process.run([*watches, scheduler], stop_seconds=GRACE_SECONDS)


def main(settings: Settings) -> int:
    """`run` to the end of the process, on the loop that Faust is made for."""
    return run_role(lambda: run(settings), grace_seconds=GRACE_SECONDS)
