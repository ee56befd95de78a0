# Written by scripts/sync-operations from client/operations/operations.graphql and the schema.
"""The enums of the API that the client meets."""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal[
    "ALREADY_ENDED",
    "ALREADY_EXISTS",
    "IDEMPOTENCY_KEY_REUSED",
    "INVALID",
    "INVALID_CURSOR",
    "INVALID_POSITION",
    "INVALID_STATE",
    "NOT_ENABLED",
    "NOT_FOUND",
    "PAYLOAD_TOO_LARGE",
    "POSITION_NOT_REACHED",
    "QUEUE_FULL",
    "UNAVAILABLE",
    "UNDECIDABLE",
    "UNKNOWN_QUEUE",
]

JobStatus = Literal[
    "CANCELLED", "CANCELLING", "DEAD_LETTERED", "DISCARDED", "QUEUED", "RETRYING", "RUNNING", "SCHEDULED", "SUCCEEDED"
]
