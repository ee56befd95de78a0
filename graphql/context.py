"""What a request carries to the resolvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import strawberry

from jobledger.graphql.caller import Caller
from jobledger.graphql.parts import Parts
from jobledger.graphql.reads import Reads
from jobledger.graphql.why import Why

Info = strawberry.Info


@dataclass(slots=True, kw_only=True)
class RequestContext(Caller):
    """One HTTP request, or one WebSocket connection with its subscriptions.

    `statuses` maps root fields to the HTTP status that their outcome stands for; what is missing is 200.
    """

    parts: Parts
    method: str
    reads: Reads
    why: Why
    connection_params: object = None
    statuses: dict[str, int] = field(default_factory=dict)


def new_context(parts: Parts, method: str) -> RequestContext:
    """The context of a new request."""
    settings = parts.settings
    reads = Reads(
        parts.model,
        parts.outcomes,
        parts.tail,
        settings.cell,
        settings.partitions,
        settings.tenant,
        parts.clock_ms,
    )
    why = Why(parts.gateway, settings.tenant, parts.new_id)
    return RequestContext(parts=parts, tenant=settings.tenant, method=method, reads=reads, why=why)


def context_of(info: Info) -> RequestContext:
    """The request's context, typed."""
    return cast(RequestContext, info.context)
