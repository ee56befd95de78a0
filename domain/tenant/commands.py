"""Commands that a tenant decides."""

from __future__ import annotations

from typing import ClassVar

from jobledger.domain.tenant.state import TenantStatus
from jobledger.domain.values import CommandBody


class TenantCommand(CommandBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the commands that a tenant decides."""


class CreateTenant(TenantCommand, frozen=True, kw_only=True, tag="tenant.create.v1"):
    """Create a tenant. `max_live_jobs` is recorded, not yet enforced; 0: no limit."""

    creating: ClassVar[bool] = True
    remembered: ClassVar[bool] = True

    max_live_jobs: int = 0


class UpdateTenant(TenantCommand, frozen=True, kw_only=True, tag="tenant.update.v1"):
    """Change a tenant; None leaves a setting as it is."""

    remembered: ClassVar[bool] = True

    status: TenantStatus | None = None
    max_live_jobs: int | None = None


AnyTenantCommand = CreateTenant | UpdateTenant
