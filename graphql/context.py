"""What a request carries to the resolvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import strawberry

from jobledger.graphql.caller import Caller
from jobledger.graphql.components import Components
from jobledger.graphql.owner_questions import OwnerQuestions
from jobledger.graphql.reads import Reads

Info = strawberry.Info


@dataclass(slots=True, kw_only=True)
class RequestContext(Caller):
    """One HTTP request, or one WebSocket connection with its subscriptions.

    `statuses` maps root fields to the HTTP status that their outcome stands for; what is missing is 200.
    """

    components: Components
    method: str
    reads: Reads
    owner_questions: OwnerQuestions
    peer: str = ""
    authorization: str = field(default="", repr=False)
    connection_params: object = field(default=None, repr=False)
    statuses: dict[str, int] = field(default_factory=dict)


def new_context(components: Components, method: str) -> RequestContext:
    """The context of a new request."""
    settings = components.settings
    reads = Reads(
        components.model,
        components.outcomes,
        components.tail,
        settings.cell,
        settings.partitions,
        settings.tenant,
        components.clock_ms,
    )
    owner_questions = OwnerQuestions(components.gateway, settings.tenant, components.new_id)
    return RequestContext(
        components=components, tenant=settings.tenant, method=method, reads=reads, owner_questions=owner_questions
    )


def context_of(info: Info) -> RequestContext:
    """The request's context, typed."""
    return cast(RequestContext, info.context)
