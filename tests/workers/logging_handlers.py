"""Handlers that log in every way, and know secrets."""

from __future__ import annotations

import logging
from typing import Any

import structlog
from pydantic import BaseModel

from jobledger import Context, handler

SECRET = "hunter2-planted"


class Order(BaseModel):
    card: str
    count: int = 1


def _tell(ctx: Context) -> None:
    ctx.logger.debug("by ctx, in detail")
    ctx.logger.info("by ctx", rows=3)
    logging.getLogger("shop.orders").warning("by logging")
    structlog.get_logger().info("by structlog")
    print("by print")
    print("unfinished", end="")


@handler("tell_loop")
async def tell_loop(payload: Order, ctx: Context) -> dict[str, str]:
    _tell(ctx)
    ctx.checkpoint({"card": payload.card}, progress=40)
    return {"card": payload.card}


@handler("tell_thread", run_in="thread")
def tell_thread(payload: Order, ctx: Context) -> dict[str, str]:
    _tell(ctx)
    ctx.checkpoint({"card": payload.card})
    return {"card": payload.card}


@handler("tell_process")
def tell_process(payload: Order, ctx: Context) -> dict[str, str]:
    _tell(ctx)
    return {"card": payload.card}


@handler("betray")
async def betray(payload: dict[str, Any]) -> None:
    raise RuntimeError(f"declined: {payload['card']}")


@handler("betray_thread", run_in="thread")
def betray_thread(payload: dict[str, Any]) -> None:
    raise KeyError(payload["card"])
