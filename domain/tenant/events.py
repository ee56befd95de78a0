"""Events of a tenant."""

from __future__ import annotations

from jobledger.domain.tenant.state import TenantStatus
from jobledger.domain.values import EventBody


class TenantEvent(EventBody, frozen=True, kw_only=True, tag_field="type"):
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


AnyTenantEvent = TenantCreated | TenantUpdated
