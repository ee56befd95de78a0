from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cell_owners import CellOwners
from confluent_kafka import Producer
from websockets.asyncio.client import connect

from jobledger.bootstrap.api import Api, build_api
from jobledger.domain.identity import job_stream, partition_of
from jobledger.domain.job.commands import FailureKind, ReportFailed
from jobledger.domain.values import Actor, ActorKind, Opaque
from jobledger.graphql.server import graphql_server
from jobledger.projections.migrate import migrate
from jobledger.projections.projector import Projector
from jobledger.schemas.commands import Command, CommandRecord, encode_record
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings, Settings
from jobledger.telemetry.http_server import HttpServer
from jobledger.telemetry.metrics import Metrics

sys.path.append(str(Path(__file__).parent.parent / "processors"))  # for `memory_owner`

PARTITIONS = 2
ERROR = "__typename ... on UserError { code message path value remedy } ... on Pending { commandId jobId message }"
SUBMIT = (
    "mutation($input: SubmitJobInput!) { submitJob(input: $input) { "
    + ERROR
    + " ... on SubmitJobSuccess { job { id status } commandId position duplicate } } }"
)


@dataclass
class RunningApi:
    """An api process in this loop, on a real port."""

    api: Api
    server: HttpServer
    http: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/graphql"

    async def raw(self, query: str, variables: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        given = {"accept": "application/graphql-response+json", **headers}
        return await self.http.post(self.url, json={"query": query, "variables": variables}, headers=given)

    async def ask(self, query: str, variables: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        answer = (await self.raw(query, variables, **headers)).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    async def error(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = (await self.raw(query, variables)).json()
        found: dict[str, Any] = answer["errors"][0]
        return found

    async def submit(self, handler: str = "work", **fields: Any) -> dict[str, Any]:
        data = await self.ask(SUBMIT, {"input": {"handler": handler, **fields}})
        answer: dict[str, Any] = data["submitJob"]
        return answer

    @contextlib.asynccontextmanager
    async def websocket(self, query: str, variables: dict[str, Any] | None = None) -> AsyncIterator[AsyncIterator[Any]]:
        """Payloads of `next` messages; ends at `complete`; raises on `error`."""
        url = self.url.replace("http", "ws", 1)
        async with connect(url, subprotocols=["graphql-transport-ws"], max_queue=None) as socket:  # type: ignore[list-item]
            await socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))

            async def items() -> AsyncIterator[Any]:
                async for text in socket:
                    message = json.loads(text)
                    if message["type"] == "complete":
                        return
                    if message["type"] == "error":
                        raise AssertionError(message["payload"])
                    yield message["payload"]

            yield items()


@dataclass
class Cell:
    """The topics of a test, their owners, and what the api needs to know."""

    settings: Settings
    owners: CellOwners
    running: list[RunningApi] = field(default_factory=list)
    started: int = 0

    async def api(self, **changes: Any) -> RunningApi:
        """Start (another) api process."""
        number = self.started = self.started + 1
        settings = self.settings.model_copy(update=changes)
        metrics = Metrics("api", instance_id=f"api-{number}", strict=True)
        api = build_api(settings, metrics, instance_id=f"api-{number}")
        try:
            for service in api.services:
                await service.start()
        except Exception:
            for service in reversed(api.services):
                await service.stop()
            raise
        api.health.set_ready(True)
        server = graphql_server(api.app, "127.0.0.1", 0, lambda: api.components.tail.end_all("stopping"))
        await server.start()
        found = RunningApi(api, server, httpx.AsyncClient(timeout=30))
        self.running.append(found)
        return found

    async def fail(self, job_id: str, assignment: int) -> None:
        """A worker reports that the job's attempt failed; in the log when this returns."""
        times: dict[str, Any] = {"assigned_at_ms": 1, "started_at_ms": 1, "ended_at_ms": 2}
        body = ReportFailed(
            task="main",
            assignment=assignment,
            worker="w",
            incarnation="i",
            **times,
            kind=FailureKind.FAILED,
            error_type="ValueError",
            error=Opaque('{"message":"no"}'),
        )
        stream = job_stream(self.settings.tenant, job_id)
        command = Command(id=f"{job_id}/{assignment}", stream=stream, actor=Actor(ActorKind.WORKER, "w"), body=body)
        producer = Producer({"bootstrap.servers": self.settings.kafka.bootstrap_servers})
        value = encode_record(CommandRecord(commands=[command]))
        topic = topic_name(self.settings.cell, Topic.COMMANDS)
        producer.produce(topic, value, stream.encode(), partition_of(stream, self.settings.partitions))
        assert await asyncio.to_thread(producer.flush, 30) == 0

    async def end(self, one: RunningApi) -> None:
        """Stop an api process."""
        self.running.remove(one)
        await one.http.aclose()
        await one.server.stop()
        for service in reversed(one.api.services):
            await service.stop()

    async def stop(self) -> None:
        for one in list(self.running):
            await self.end(one)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a file run in one loop, so that they can share an api."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def _settings(bootstrap_servers: str, cell: str, postgres_dsn: str) -> Settings:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, replication_factor=1, min_insync_replicas=1)
    return Settings(
        cell=cell,
        partitions=PARTITIONS,
        dev=True,
        postgres_dsn=postgres_dsn,  # type: ignore[arg-type]
        kafka=kafka,
        instance_id="test",
        mutation_timeout_seconds=5,
    )


@contextlib.asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[Cell]:
    """Owners and projector run."""
    owners = CellOwners(settings.kafka, settings.cell, PARTITIONS)
    await owners.start()
    await asyncio.to_thread(migrate, settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    projector = Projector(settings, Metrics("projector", instance_id="projector-1"))
    found = Cell(settings, owners)
    await projector.start()
    try:
        yield found
    finally:
        await found.stop()
        await asyncio.gather(projector.stop(), owners.stop())


@pytest_asyncio.fixture(loop_scope="module")
async def system(bootstrap_servers: str, cell: str, postgres_dsn: str) -> AsyncIterator[Cell]:
    """A cell of the test's own; start apis with `await system.api()`."""
    async with _running(_settings(bootstrap_servers, cell, postgres_dsn)) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(module_ground: Any) -> AsyncIterator[Cell]:
    """A cell that all tests of the file share: what they leave in it, the others find."""
    async with _running(_settings(*module_ground)) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(shared_system: Cell) -> RunningApi:
    """The api of the shared cell."""
    return await shared_system.api()
