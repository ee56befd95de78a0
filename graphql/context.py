"""What a request carries to the resolvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import strawberry

from jobledger.domain.values import Actor, ActorKind

if TYPE_CHECKING:
    from jobledger.graphql.parts import Parts
    from jobledger.graphql.reads import Reads
    from jobledger.graphql.why import Why

Info = strawberry.Info

#: Until the api knows who calls, every call is by this user of the one tenant.
ANONYMOUS = Actor(ActorKind.USER, "anonymous")


@dataclass(slots=True)
class RequestContext:
    """One HTTP request, or one WebSocket connection with its subscriptions.

    `statuses` maps root fields to the HTTP status that their outcome stands for; what is missing is 200.
    """

    parts: Parts
    tenant: str
    method: str
    reads: Reads
    why: Why
    traceparent: str = ""
    correlation_id: str | None = None
    actor: Actor = ANONYMOUS
    connection_params: object = None
    statuses: dict[str, int] = field(default_factory=dict)


def context_of(info: Info) -> RequestContext:
    """The request's context, typed."""
    return cast(RequestContext, info.context)
