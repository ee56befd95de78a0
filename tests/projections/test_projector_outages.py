"""Kafka or Postgres goes away and comes back: the projector waits, then goes on; the role as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import httpx
import pytest

from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.ports import free_port
from jobledger.dev.postgres import EmbeddedPostgres
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.schemas.topics import TOPICS, Topic

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.mark.scenario(
    "Postgres goes away",
    emits=(
        "db_connection_lost",
        "db_connection_restored",
        "projection_batch_retried",
        "scheduler_db_connection_errors_total",
    ),
)
async def test_a_restart_of_postgres(
    postgres: EmbeddedPostgres, start: Any, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """Killed without a checkpoint while the projector works, the tables come out right."""
    projector = await start()
    halves = {partition: len(records) // 2 for partition, records in history.logs.items()}
    for partition, records in history.logs.items():
        log.write(partition, records[: halves[partition]])
    await until(lambda: sum(tables.vector().values()) > 0)
    postgres.kill()
    for partition, records in history.logs.items():
        log.write(partition, records[halves[partition] :])
    await asyncio.sleep(0.5)
    postgres.start()
    fresh = type(tables)(postgres_dsn)
    await until(lambda: fresh.vector() == history.vector, seconds=30)
    fresh.check(history)
    fresh.close()
    assert projector.running


async def test_a_restart_of_kafka(
    kafka_broker: KafkaBroker, start: Any, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """The group finds itself again and nothing is lost or doubled."""
    projector = await start()
    halves = {partition: len(records) // 2 for partition, records in history.logs.items()}
    for partition, records in history.logs.items():
        log.write(partition, records[: halves[partition]])
    await until(lambda: tables.vector() == {p: at for p, at in halves.items() if at})
    kafka_broker.stop()
    await asyncio.sleep(1)
    kafka_broker.start()
    for partition, records in history.logs.items():
        log.write(partition, records[halves[partition] :])
    await until(lambda: tables.vector() == history.vector, seconds=60)
    tables.check(history)
    assert projector.running


ROLE = """
import asyncio, sys
from jobledger.bootstrap.projector import run
from jobledger.settings import Settings
sys.exit(asyncio.run(run(Settings())))
"""


async def test_the_role_as_a_process(
    cell: str, bootstrap_servers: str, history: Any, make_log: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """It migrates, waits for the topics, projects, answers for its health and metrics, and ends cleanly on SIGTERM."""
    port = free_port()
    environment = {
        **os.environ,
        "JOBLEDGER_CELL": cell,
        "JOBLEDGER_PARTITIONS": "4",
        "JOBLEDGER_DEV": "true",
        "JOBLEDGER_HEALTH_PORT": str(port),
        "JOBLEDGER_POSTGRES_DSN": postgres_dsn,
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ROLE, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        log = make_log(4)
        durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
        log.set_config(TOPICS[Topic.EVENTS].config)
        await asyncio.to_thread(ensure_topics, log.kafka.client_config(), cell, 4, durability)
        log.write_all(history)
        await until(lambda: tables.projected(history), seconds=40)
        tables.check(history)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/health/ready")).status_code == 200
            status = (await client.get("/health/status")).json()
            assert {"database", "queue", "projection"} <= set(status["components"])
            metrics = (await client.get("/metrics")).text
        total = sum(history.vector.values())
        assert f"jobledger_projected_events_total {float(total)}" in metrics
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, output.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
