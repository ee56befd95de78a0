"""The role as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import httpx
import psycopg
import pytest

from jobledger.bootstrap.api import topic_watch
from jobledger.dev.ports import free_port
from jobledger.eventlog import topic_watch as watching
from jobledger.eventlog.topic_watch import LOOKS_TO_BELIEVE, TopicWatch, topic_ids
from jobledger.eventlog.topics import TopicError

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
PROGRAM = """
import sys
from jobledger.bootstrap.api import main
from jobledger.settings import Settings
sys.exit(main(Settings()))
"""


def _environment(settings: Any, port: int, health: int) -> dict[str, str]:
    return {
        **os.environ,
        "JOBLEDGER_CELL": settings.cell,
        "JOBLEDGER_PARTITIONS": str(settings.partitions),
        "JOBLEDGER_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "JOBLEDGER_API_PORT": str(port),
        "JOBLEDGER_HEALTH_PORT": str(health),
    }


async def _start(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE
    )


async def test_the_process_becomes_ready_serves_and_stops_cleanly_with_streams_open(system: Any) -> None:
    port, health = free_port(), free_port()
    process = await _start(_environment(system.settings, port, health))
    assert process.stdout is not None
    try:
        async with httpx.AsyncClient(timeout=20) as http:
            await _ready(http, health)
            query = {"query": 'mutation { submitJob(input: {handler: "work"}) { __typename } }'}
            answer = await http.post(f"http://127.0.0.1:{port}/graphql", json=query)
            assert answer.json() == {"data": {"submitJob": {"__typename": "SubmitJobSuccess"}}}
            stream = {"query": "subscription { jobEvents { __typename ... on Resync { message } } }"}
            headers = {"accept": "text/event-stream"}
            url = f"http://127.0.0.1:{port}/graphql"
            async with http.stream("POST", url, json=stream, headers=headers) as response:
                taken = await _start(_environment(system.settings, port, free_port()))
                output, _ = await asyncio.wait_for(taken.communicate(), 30)
                assert taken.returncode == 1 and b"Cannot listen on 127.0.0.1" in output
                process.send_signal(signal.SIGTERM)
                text = "".join([chunk async for chunk in response.aiter_text()])
            assert "is stopping; subscribe again" in text
        assert await asyncio.wait_for(process.wait(), 20) == 0
        lines = [json.loads(line) for line in (await process.stdout.read()).splitlines()]
        assert {"process_started", "process_ready", "process_stopped"} <= {line["event"] for line in lines}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(http: httpx.AsyncClient, health: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await http.get(f"http://127.0.0.1:{health}/health/ready")
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def test_events_that_were_made_anew_while_it_did_not_run_are_refused(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process remembers nothing; the projectors have noted which topic they read."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.1)
    api, settings = await system.api(), system.settings
    noted = (
        "INSERT INTO positions (partition, topic_id) VALUES (0, %s) ON CONFLICT (partition) DO UPDATE SET topic_id = %s"
    )
    found = (await asyncio.to_thread(topic_ids, settings.kafka.client_config(), settings.cell))["events"]
    async with await psycopg.AsyncConnection.connect(
        settings.postgres_dsn.get_secret_value(), autocommit=True, options="-c search_path=jobledger"
    ) as postgres:
        for known, accept, fault in ((found, False, False), ("other", True, False), ("other", False, True)):
            await postgres.execute(noted, [known, known])
            watch = topic_watch(settings.model_copy(update={"accept_new_topics": accept}), api.api.components)
            looks = _count_looks(watch)
            await watch.start()
            waiting = asyncio.ensure_future(watch.wait())
            async with asyncio.timeout(30):
                # What is noted is known after the second look.
                while not waiting.done() and len(looks) <= 2 + LOOKS_TO_BELIEVE + 1:  # noqa: ASYNC110 - a plain list
                    await asyncio.sleep(0.01)
            assert waiting.done() == fault
            if fault:
                with pytest.raises(TopicError, match="events' was deleted and made anew"):
                    waiting.result()
            waiting.cancel()
            await watch.stop()


def _count_looks(watch: TopicWatch) -> list[dict[str, str]]:
    """What it sees, look by look."""
    looks: list[dict[str, str]] = []
    look = watch._look

    def looking() -> dict[str, str]:
        looks.append(look())
        return looks[-1]

    watch._look = looking  # type: ignore[method-assign]
    return looks
