"""How the events of a tenant change its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.tenant.events import TenantCreated, TenantEvent, TenantUpdated
from jobledger.domain.tenant.state import Tenant


def create(stream: str, event: TenantCreated) -> Tenant:
    """The tenant after its first event."""
    return Tenant(id=stream, version=1, created_at_ms=event.created_at_ms, max_live_jobs=event.max_live_jobs)


def _on_updated(tenant: Tenant, event: TenantUpdated) -> None:
    tenant.status, tenant.max_live_jobs = event.status, event.max_live_jobs


EVOLVE: dict[type[TenantEvent], Callable[[Tenant, Any], None]] = {TenantUpdated: _on_updated}
