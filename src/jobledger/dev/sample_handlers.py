"""Handlers of a bare `jobledger dev`: enough to see a job succeed, take its time, or fail."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field

from jobledger import Context, handler


class Nap(BaseModel):
    """How long to sleep."""

    seconds: float = Field(default=1.0, ge=0, le=3600)


@handler("echo")
async def echo(payload: Any) -> Any:
    """Return the payload."""
    return payload


@handler("sleep")
async def sleep(payload: Nap, ctx: Context) -> dict[str, object]:
    """Sleep, then tell which attempt this was."""
    ctx.logger.info(f"sleeping for {payload.seconds} s")
    await asyncio.sleep(payload.seconds)
    return {"slept": payload.seconds, "attempt": ctx.attempt}


@handler("fail")
async def fail(ctx: Context) -> None:
    """Fail, every time."""
    raise RuntimeError(f"attempt {ctx.attempt} failed, as asked")
