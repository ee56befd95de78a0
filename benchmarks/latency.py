"""Latencies of an idle system: one job at a time, timers, a herd, visibility, subscriptions."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import websockets
from stack import BenchStack
from throughput import SUBMIT_JOBS

SUBMIT = """mutation($input: SubmitJobInput!) { submitJob(input: $input) { __typename
  ... on SubmitJobSuccess { job { id } } ... on UserError { code message } } }"""
JOB = "query($id: ID!) { job(id: $id) { status } }"
SUBSCRIBE = """subscription { jobEvents(filter: {types: ["job.submitted"]}) { __typename
  ... on JobEvent { jobId at } } }"""
PAUSE_SECONDS = 0.03


def _now_ms() -> float:
    return time.time() * 1000


def _submit(stack: BenchStack, **more: Any) -> str:
    answer = stack.graphql(SUBMIT, {"input": {"handler": "noop", "payload": {"a": 1}, **more}})["submitJob"]
    job_id: str = answer["job"]["id"]
    return job_id


def _started_ms(stack: BenchStack, job_ids: list[str]) -> dict[str, float]:
    """When each job's handler started, by the worker's clock, which is this machine's."""
    query = "SELECT job_id, started_at_ms FROM jobledger.attempts WHERE job_id = ANY(%s)"
    deadline = time.monotonic() + 30
    while True:
        with psycopg.connect(stack.ready["postgres_dsn"]) as connection:
            rows = dict(connection.execute(query, [job_ids]).fetchall())
        if len(rows) == len(job_ids) and all(rows.values()):
            return rows
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(rows)} of {len(job_ids)} jobs have started after 30 s.")
        time.sleep(0.1)


def submissions(stack: BenchStack, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds until a mutation was answered, and until the handler of its job started."""
    answered, sent = [], {}
    for _ in range(count):
        started, wall = time.perf_counter(), _now_ms()
        sent[_submit(stack)] = wall
        answered.append((time.perf_counter() - started) * 1000)
        time.sleep(PAUSE_SECONDS)
    begun = _started_ms(stack, list(sent))
    return answered, [begun[job_id] - wall for job_id, wall in sent.items()]


def due(stack: BenchStack, count: int) -> list[float]:
    """Milliseconds from the due time to the start of the handler; due times 50 ms apart."""
    first = _now_ms() + 2000 + count * 60
    due_at = {}
    for index in range(count):
        at = round(first + index * 50)
        due_at[_submit(stack, at=_text(at))] = at
    time.sleep(max(0.0, (first + count * 50 - _now_ms()) / 1000))
    begun = _started_ms(stack, list(due_at))
    return [begun[job_id] - at for job_id, at in due_at.items()]


def herd(stack: BenchStack, count: int = 200) -> float:
    """Milliseconds from one due time of `count` jobs to the start of the last of them."""
    at = round(_now_ms() + 2000)
    inputs = [{"handler": "noop", "payload": {"a": 1}, "at": _text(at)}] * count
    query = SUBMIT_JOBS.replace("{ accepted }", "{ accepted jobIds }")
    job_ids = stack.graphql(query, {"input": inputs})["submitJobs"]["jobIds"]
    time.sleep(max(0.0, (at - _now_ms()) / 1000 + 0.5))
    return max(_started_ms(stack, job_ids).values()) - at


def visible(stack: BenchStack, count: int) -> list[float]:
    """Milliseconds from the end of a handler to the first query that shows its job done."""
    seen = {}
    for _ in range(count):
        job_id = _submit(stack)
        while (stack.graphql(JOB, {"id": job_id})["job"] or {}).get("status") != "SUCCEEDED":
            time.sleep(0.002)
        seen[job_id] = _now_ms()
    query = "SELECT max(ended_at_ms) FROM jobledger.attempts WHERE job_id = %s"
    return [wall - stack.sql(query, job_id) for job_id, wall in seen.items()]


def subscription(stack: BenchStack, count: int) -> list[float]:
    """Milliseconds from an event's time in the log to its arrival at a subscribed client."""
    arrived: list[float] = []
    ready = threading.Event()
    listener = threading.Thread(target=lambda: asyncio.run(_listen(stack, count, ready, arrived)))
    listener.start()
    ready.wait(10)
    for _ in range(count):
        _submit(stack)
        time.sleep(PAUSE_SECONDS)
    listener.join(30)
    if len(arrived) < count:
        raise RuntimeError(f"{len(arrived)} of {count} events arrived.")
    return arrived


async def _listen(stack: BenchStack, count: int, ready: threading.Event, arrived: list[float]) -> None:
    url = stack.ready["graphql_url"].replace("http", "ws", 1)
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": SUBSCRIBE}}))
        await asyncio.sleep(0.5)
        ready.set()
        async with asyncio.timeout(60):
            while len(arrived) < count:
                message = json.loads(await socket.recv())
                if message["type"] == "next":
                    at = datetime.fromisoformat(message["payload"]["data"]["jobEvents"]["at"])
                    arrived.append(_now_ms() - at.timestamp() * 1000)


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
