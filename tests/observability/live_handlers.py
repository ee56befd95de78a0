"""Handlers of the live stack."""

from __future__ import annotations

from typing import Any

from jobledger import Context, NonRetryable, handler


@handler("echo")
async def echo(payload: Any) -> Any:
    return payload


@handler("saves")
async def saves(ctx: Context) -> None:
    """Saves how far it is."""
    ctx.checkpoint({"done": 1})


@handler("fails")
async def fails() -> None:
    raise NonRetryable("as asked")
