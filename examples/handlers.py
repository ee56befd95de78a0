"""Handlers to look at first: `jobledger dev --handlers examples.handlers`."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

from pydantic import BaseModel

from jobledger import Context, NonRetryable, handler


class Email(BaseModel):
    to: str
    subject: str = "Hello"


@handler("send_email", timeout="30s")
async def send_email(payload: Email, ctx: Context) -> dict[str, str]:
    if "@" not in payload.to:
        raise NonRetryable(f"'{payload.to}' is not an address")
    await asyncio.sleep(0.1)  # a real one would talk to a mail server, with ctx.execution_id as its message id
    ctx.logger.info("sent", attempt=ctx.attempt)
    return {"sent_to": payload.to}


@handler("count_functions", timeout="1m")
def count_functions(payload: dict[str, str]) -> dict[str, int]:
    """Plain function: runs in a process of its own, so it may use the CPU as it likes."""
    tree = ast.parse(Path(payload["path"]).read_text())
    return {"functions": sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))}
