"""The tenant: status and limits. One default tenant exists without being created."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from jobledger.domain.effects import Effect
from jobledger.domain.identity import split_stream
from jobledger.domain.values import Answer, Code, Rejection, Value


class TenantStatus(StrEnum):
    """Status of a tenant: recorded, not yet enforced at submission."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class TenantCommand(Value, frozen=True, kw_only=True, tag_field="type"):
    """Base of the commands that a tenant decides."""


class CreateTenant(TenantCommand, frozen=True, kw_only=True, tag="tenant.create.v1"):
    """Create a tenant. `max_live_jobs` is recorded, not yet enforced; 0: no limit."""

    max_live_jobs: int = 0


class UpdateTenant(TenantCommand, frozen=True, kw_only=True, tag="tenant.update.v1"):
    """Change a tenant; None leaves a setting as it is."""

    status: TenantStatus | None = None
    max_live_jobs: int | None = None


AnyTenantCommand = CreateTenant | UpdateTenant


class TenantEvent(Value, frozen=True, kw_only=True, tag_field="type"):
    """Base of the events of a tenant."""


class TenantCreated(TenantEvent, frozen=True, kw_only=True, tag="tenant.created.v1"):
    """The tenant exists."""

    created_at_ms: int
    max_live_jobs: int = 0


class TenantUpdated(TenantEvent, frozen=True, kw_only=True, tag="tenant.updated.v1"):
    """The settings after the change, all of them."""

    updated_at_ms: int
    status: TenantStatus
    max_live_jobs: int


class Tenant(msgspec.Struct, kw_only=True, omit_defaults=True):
    """State of a tenant."""

    id: str
    version: int
    created_at_ms: int
    status: TenantStatus = TenantStatus.ACTIVE
    max_live_jobs: int = 0
    created_seq: int = 0
    recent: list[str] = []

    class_version = 1


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


def create(stream: str, event: TenantCreated) -> Tenant:
    """The tenant after its first event."""
    return Tenant(id=stream, version=1, created_at_ms=event.created_at_ms, max_live_jobs=event.max_live_jobs)


def _on_updated(tenant: Tenant, event: TenantUpdated) -> None:
    tenant.status, tenant.max_live_jobs = event.status, event.max_live_jobs


EVOLVE: dict[type[TenantEvent], Callable[[Tenant, Any], None]] = {TenantUpdated: _on_updated}


def react(tenant: Tenant, event: TenantEvent) -> list[Effect]:
    """Nothing follows from a tenant's events yet."""
    return []
