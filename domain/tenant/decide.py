"""What the commands of a tenant mean."""

from __future__ import annotations

from jobledger.domain.effects import Effect
from jobledger.domain.identity import split_stream
from jobledger.domain.tenant.commands import CreateTenant, TenantCommand, UpdateTenant
from jobledger.domain.tenant.events import TenantCreated, TenantEvent, TenantUpdated
from jobledger.domain.tenant.state import Tenant
from jobledger.domain.values import Answer, Code, Rejection


def decide(
    stream: str, tenant: Tenant | None, command: TenantCommand, now: int
) -> list[TenantEvent] | Rejection | Answer:
    """What a command means for a tenant at time `now` (ms)."""
    name = split_stream(stream)[2]
    if isinstance(command, CreateTenant):
        if tenant is None:
            return [TenantCreated(created_at_ms=now, max_live_jobs=command.max_live_jobs)]
        return Rejection(code=Code.ALREADY_EXISTS, message=f"Tenant '{name}' exists.", field="name", value=name)
    if tenant is None:
        return Rejection(code=Code.NOT_FOUND_OR_EXPIRED, message=f"No tenant '{name}'.", field="name", value=name)
    assert isinstance(command, UpdateTenant)
    status = command.status or tenant.status
    limit = tenant.max_live_jobs if command.max_live_jobs is None else command.max_live_jobs
    if (status, limit) == (tenant.status, tenant.max_live_jobs):
        return []
    return [TenantUpdated(updated_at_ms=now, status=status, max_live_jobs=limit)]


def react(tenant: Tenant, event: TenantEvent) -> list[Effect]:
    """Nothing follows from a tenant's events yet."""
    return []
