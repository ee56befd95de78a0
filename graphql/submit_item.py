"""What a submission must have, whichever way it came in."""

from __future__ import annotations

from typing import Any, Protocol


class TagItem(Protocol):
    """A tag of an input."""

    name: str
    value: str


class SubmitItem(Protocol):
    """A job of an input: `SubmitJobInput`, or the same fields in a bulk."""

    handler: str
    payload: Any
    payload_text: str | None
    queue: str
    priority: int
    at: Any
    delay_seconds: float | None
    retry: Any
    timeout_seconds: float | None
    tags: Any
    parent_id: Any
    idempotency_key: str | None
    command_id: Any
