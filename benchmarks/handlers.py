"""The no-op handler that the benchmarks run."""

from __future__ import annotations

from typing import Any

from jobledger import handler


@handler("noop")
async def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""
