"""Handlers that write down what they do: a line for each moment, in one file that all workers append to."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from jobledger import Context, Retry, handler

JOURNAL = os.environ.get("CHAOS_JOURNAL", os.devnull)


def note(ctx: Context, what: str) -> None:
    """One write of one line: O_APPEND keeps lines of several processes apart."""
    line = {
        "what": what,
        "job": ctx.job_id,
        "execution": ctx.execution_id,
        "attempt": ctx.attempt,
        "assignment": ctx.assignment,
        "pid": os.getpid(),
        "mono": time.monotonic(),
        "wall_ms": time.time_ns() // 1_000_000,
    }
    file = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@handler("work")
async def work(payload: dict[str, Any], ctx: Context) -> int:
    """Takes `seconds`, a sign of life each `tick`; its first `fail` attempts fail."""
    note(ctx, "start")
    end = time.monotonic() + payload.get("seconds", 0)
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, payload.get("tick", 0.1)))
        note(ctx, "tick")
    if ctx.attempt <= payload.get("fail", 0):
        raise Retry("not yet")
    note(ctx, "end")
    return ctx.attempt


@handler("work_in_process")
def work_in_process(payload: dict[str, Any], ctx: Context) -> int:
    """The same in a process of its own, which may outlive its worker by a moment."""
    note(ctx, "start")
    end = time.monotonic() + payload.get("seconds", 0)
    while time.monotonic() < end:
        time.sleep(0.05)
        note(ctx, "tick")
    note(ctx, "end")
    return ctx.attempt
