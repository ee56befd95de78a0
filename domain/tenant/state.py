"""State of a tenant."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class TenantStatus(StrEnum):
    """Status of a tenant: recorded, not yet enforced at submission."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


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

    @property
    def head(self) -> Tenant:
        """The tenant itself: nothing is stored beside it."""
        return self
