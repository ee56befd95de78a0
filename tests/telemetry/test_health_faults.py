"""What health says of a real Postgres and a real Kafka whose line is slow, held up, or cut."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from delaying_proxy import DelayingProxy, kafka_line, postgres_line

from jobledger.bootstrap import dependencies
from jobledger.bootstrap.dependencies import add_database, add_queue
from jobledger.eventlog import topics
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.topics import TOPICS, Topic
from jobledger.settings import KafkaSettings, Settings
from jobledger.telemetry.health import Health

DURABILITY = Durability(replication_factor=1, min_insync_replicas=1, dev=True)


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Health:
    """Nothing that was found is kept, so that each question is asked."""
    monkeypatch.setattr(dependencies, "KEEP_SECONDS", 0.0)
    health = Health("1")
    health.set_ready(True)
    return health


async def _found(health: Health, name: str) -> dict[str, Any]:
    return dict((await health.status())[1]["components"][name])


async def _becomes(health: Health, name: str, status: str, seconds: float = 20.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while (found := await _found(health, name))["status"] != status:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


async def _stays_live(health: Health, proxy: DelayingProxy) -> None:
    """Held up: not ready, whatever asks; live at once."""
    proxy.hold()
    asking = asyncio.ensure_future(health.ready())
    await asyncio.sleep(0.05)
    assert not asking.done() and health.live()[0] == 200
    assert (await asking)[0] == 503


@pytest.mark.postgres
async def test_a_database_that_is_slow_held_up_or_gone(
    health: Health, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "ANSWER_SECONDS", 1.0)
    async with postgres_line(postgres_dsn) as (dsn, proxy):
        model = ReadModel(dsn, max_size=1)
        await model.start()
        add_database(health, model.ping)
        try:
            assert (await _becomes(health, "database", "HEALTHY"))["latency_ms"] < 100
            proxy.delay_seconds = 0.15
            slow = await _found(health, "database")
            assert slow["status"] == "DEGRADED" and slow["latency_ms"] >= 150, slow
            assert (await health.ready())[0] == 200
            proxy.delay_seconds = 0.0
            await _stays_live(health, proxy)
            assert (await _found(health, "database"))["error"]
            proxy.release()
            await _becomes(health, "database", "HEALTHY")
            await proxy.cut()
            assert (await _found(health, "database"))["status"] == "UNHEALTHY"
            await proxy.restore()
            await _becomes(health, "database", "HEALTHY")
        finally:
            proxy.release()
            await model.stop()


@pytest.mark.kafka
async def test_a_queue_that_is_slow_held_up_or_gone(
    health: Health, bootstrap_servers: str, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kafka_line(bootstrap_servers) as (servers, proxy):
        settings = Settings(cell=cell, partitions=1, dev=True, kafka=KafkaSettings(bootstrap_servers=servers))
        monkeypatch.setattr(topics, "TOPICS", {Topic.PROBES: TOPICS[Topic.PROBES]})
        monkeypatch.setattr(dependencies, "ANSWER_SECONDS", 10.0)
        add_queue(health, settings, "probing")
        missing = await _found(health, "queue")
        assert missing["status"] == "DEGRADED" and f"'{cell}.probes' does not exist" in missing["error"], missing
        await asyncio.to_thread(ensure_topics, settings.kafka.client_config(), cell, 1, DURABILITY)
        assert (await _becomes(health, "queue", "HEALTHY"))["latency_ms"] < 500
        proxy.delay_seconds = 0.3
        slow = await _found(health, "queue")
        assert slow["status"] == "DEGRADED" and 500 < slow["latency_ms"] < 2_000, slow
        proxy.delay_seconds = 0.0
        monkeypatch.setattr(dependencies, "ANSWER_SECONDS", 1.0)
        add_queue(health, settings, "probing")
        await _stays_live(health, proxy)
        assert (await _found(health, "queue"))["error"]
        proxy.release()
        await _becomes(health, "queue", "HEALTHY")
        await proxy.cut()
        assert (await _found(health, "queue"))["status"] == "UNHEALTHY"
        await proxy.restore()
        await _becomes(health, "queue", "HEALTHY")
