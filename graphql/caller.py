"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass

from jobledger.domain.values import Actor, ActorKind

#: Until the api knows who calls, every call is by this user of the one tenant.
ANONYMOUS = Actor(ActorKind.USER, "anonymous")


@dataclass(slots=True, kw_only=True)
class Caller:
    """Who sends a command, and what it belongs to: the trace and the caller's own name for what it is about."""

    tenant: str
    actor: Actor = ANONYMOUS
    traceparent: str = ""
    correlation_id: str | None = None
