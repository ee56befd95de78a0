"""The items of a bulk as light structs.

Strawberry converts an input object field by field in Python, 60 µs a job, after graphql-core has checked it. For a
thousand jobs that is most of the work of the api, so `submitJobs` takes graphql-core's checked values as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec
import strawberry
from graphql import GraphQLResolveInfo

from jobledger.graphql.mutations import submit_jobs


class TagFields(msgspec.Struct, rename="camel"):
    """As TagInput."""

    name: str
    value: str


class RetryPolicyFields(msgspec.Struct, rename="camel"):
    """As RetryPolicyInput."""

    max_attempts: int | None = None
    initial_seconds: float | None = None
    factor: float | None = None
    max_seconds: float | None = None
    jitter_ratio: float | None = None
    give_up_on: list[str] | None = None


class SubmitJobFields(msgspec.Struct, rename="camel"):
    """As SubmitJobInput."""

    handler: str
    payload: Any = None
    payload_text: str | None = None
    queue: str = "default"
    priority: int = 3
    at: Any = None
    delay_seconds: float | None = None
    retry: RetryPolicyFields | None = None
    timeout_seconds: float | None = None
    tags: list[TagFields] | None = None
    parent_id: str | None = None
    idempotency_key: str | None = None
    command_id: str | None = None


async def _resolve(root: object, info: GraphQLResolveInfo[Any], *, input: list[dict[str, Any]]) -> object:
    return await submit_jobs(info.context, msgspec.convert(input, list[SubmitJobFields]))


def take_bulks_directly(schema: strawberry.Schema) -> None:
    """Let `submitJobs` resolve without Strawberry's conversion of its argument."""
    mutation = schema._schema.mutation_type
    assert mutation is not None
    mutation.fields["submitJobs"].resolve = _resolve
