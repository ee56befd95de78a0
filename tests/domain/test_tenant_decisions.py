from __future__ import annotations

from typing import Any

from jobledger.domain.tenant.commands import CreateTenant, UpdateTenant
from jobledger.domain.tenant.events import TenantCreated, TenantUpdated
from jobledger.domain.tenant.state import TenantStatus
from jobledger.domain.values import Code

NOW = 1_000_000
CREATED = TenantCreated(created_at_ms=NOW, max_live_jobs=5)
SUSPENDED = TenantUpdated(updated_at_ms=NOW, status=TenantStatus.SUSPENDED, max_live_jobs=5)


def test_create_and_update(domain: Any) -> None:
    """An update writes all settings; one that changes nothing writes none."""
    tenant = domain("tenant")
    tenant.assert_events([], CreateTenant(max_live_jobs=5), [CREATED])
    tenant.assert_events([CREATED], UpdateTenant(status=TenantStatus.SUSPENDED), [SUSPENDED])
    tenant.assert_events([CREATED, SUSPENDED], UpdateTenant(max_live_jobs=5), [])
    changed = TenantUpdated(updated_at_ms=NOW, status=TenantStatus.SUSPENDED, max_live_jobs=0)
    tenant.assert_events([CREATED, SUSPENDED], UpdateTenant(max_live_jobs=0), [changed])
    assert tenant.effects([CREATED, SUSPENDED]) == []


def test_rejections(domain: Any) -> None:
    """A tenant is created once, and before it is changed."""
    domain("tenant").assert_rejected([CREATED], CreateTenant(), Code.ALREADY_EXISTS, "name")
    domain("tenant").assert_rejected([], UpdateTenant(), Code.NOT_FOUND_OR_EXPIRED, "name")
