"""Handlers for the tests; the pool's processes import this module by name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from jobledger import Context, NonRetryable, Retry, handler

ATTEMPTS: list[int] = []


class Email(BaseModel):
    to: str
    copies: int = 1


@handler("noop")
async def noop(payload: dict[str, Any]) -> None:
    return None


@handler("echo")
async def echo(payload: Email, ctx: Context) -> dict[str, Any]:
    return {"to": payload.to, "copies": payload.copies, "attempt": ctx.attempt, "execution": ctx.execution_id}


@handler("sleepy")
async def sleepy(payload: float) -> str:
    await asyncio.sleep(payload)
    return "slept"


@handler("journal_async")
async def journal_async(payload: str) -> str:
    Path(payload).write_text("started")  # noqa: ASYNC240 - a test may
    await asyncio.sleep(30)
    return "never"


@handler("flaky")
async def flaky(payload: int, ctx: Context) -> int:
    ATTEMPTS.append(ctx.attempt)
    if ctx.attempt <= payload:
        raise Retry(f"attempt {ctx.attempt} has no luck")
    return ctx.attempt


@handler("hopeless")
async def hopeless() -> None:
    raise NonRetryable("never works")


@handler("unserialisable")
async def unserialisable() -> object:
    return object()


@handler("huge")
async def huge() -> str:
    return "x" * 300_000


@handler("square")
def square(payload: int) -> int:
    return payload * payload


@handler("pid")
def pid(payload: dict[str, Any], ctx: Context) -> int:
    return os.getpid()


@handler("spin", timeout="300ms")
def spin(payload: str) -> None:
    """Ignores everything; writes its pid and that of a program it has started."""
    child = subprocess.Popen(["sleep", "60"])
    Path(payload).write_text(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(0.01)


@handler("stubborn")
def stubborn(payload: str) -> None:
    Path(payload).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@handler("polite")
def polite(payload: str, ctx: Context) -> None:
    Path(payload).write_text(str(os.getpid()))
    while not ctx.wait_cancelled(0.01):
        pass
    ctx.raise_if_cancelled()


@handler("suicidal")
def suicidal() -> None:
    os._exit(3)


@handler("steps")
def steps(payload: int, ctx: Context) -> list[int]:
    done = ctx.last_checkpoint or []
    for step in range(len(done), payload):
        done.append(step)
        ctx.checkpoint(done)
        if ctx.attempt == 1 and step == payload // 2:
            raise Retry("half way")
    return done


@handler("threaded", run_in="thread")
def threaded(payload: float, ctx: Context) -> str:
    ctx.wait_cancelled(payload)
    ctx.raise_if_cancelled()
    return "done"


@handler("threaded_echo", run_in="thread")
def threaded_echo(payload: Email) -> dict[str, Any]:
    return {"to": payload.to}


@handler("traced")
async def traced(ctx: Context) -> str | None:
    return ctx.trace


@handler("traced_later")
async def traced_later(ctx: Context) -> str | None:
    if ctx.attempt == 1:
        raise Retry("not yet")
    return ctx.trace


@handler("bereft")
def bereft(payload: str) -> None:
    """Dies, and leaves a child behind that holds its connection to the worker open."""
    if os.fork() == 0:
        Path(payload).write_text(str(os.getpid()))
        time.sleep(600)
    while not Path(payload).exists():
        time.sleep(0.01)
    os._exit(3)


@handler("family")
def family(payload: str, ctx: Context) -> None:
    """Starts a program and a thread that talks to the worker without end, writes a file, and stays."""
    subprocess.Popen(["sleep", "600"])

    def talk() -> None:
        while True:
            ctx.checkpoint("talks" * 100)
            time.sleep(0.001)

    threading.Thread(target=talk).start()
    Path(payload).write_text(str(os.getpid()))
    time.sleep(600)


@handler("greedy")
def greedy(payload: str) -> int:
    """One call of C code that lets nobody else have the interpreter."""
    Path(payload).write_text(str(os.getpid()))
    return sum(range(10**13))


@handler("quits")
async def quits(ctx: Context) -> None:
    """Fails, then takes its worker with it."""
    print("about to quit")
    if ctx.attempt == 1:
        raise Retry("not yet")
    os._exit(3)


@handler("blocker")
async def blocker(payload: float) -> str:
    """Stops everything in the loop of its worker."""
    time.sleep(payload)  # noqa: ASYNC251 - that is what it is for
    return "slept"


@handler("doubled")
def doubled(payload: int) -> int:
    """Returns twice: in the process that was called, and in a copy of it."""
    os.fork()
    return payload


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@handler("unspeakable_process")
def unspeakable_process() -> None:
    raise UnspeakableError


@handler("unspeakable_thread", run_in="thread")
def unspeakable_thread() -> None:
    raise UnspeakableError


@handler("surrogate")
async def surrogate() -> None:
    raise ValueError("lone \ud800 half")


@handler("calls")
async def calls(payload: str, ctx: Context) -> dict[str, str]:
    """Calls a service, below a span of its own; gives the headers that it sent."""
    from opentelemetry import trace

    with trace.get_tracer(__name__).start_as_current_span("own_step"), ctx.external_call(payload) as call:
        async with httpx.AsyncClient() as client:
            call.status = (await client.get(payload, headers=call.headers)).status_code
        return call.headers


@handler("calls_in_process", run_in="process")
def calls_in_process(payload: str, ctx: Context) -> None:
    """Calls a service from a process of the pool, then fails."""
    with ctx.external_call(payload, "POST") as call:
        call.status = httpx.post(payload, headers=call.headers).status_code
    raise ValueError("after the call")
