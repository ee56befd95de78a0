"""The tenant, as the register of aggregates has it."""

from __future__ import annotations

from jobledger.domain.kind import Kind, Recorded
from jobledger.domain.tenant import decide, evolve
from jobledger.domain.tenant.events import TenantCreated
from jobledger.domain.tenant.state import Tenant


def _create(record: Recorded) -> Tenant:
    return evolve.create(record.originator_id, record.data)


TENANT = Kind(
    name="tenant",
    snapshot=Tenant,
    created_by=TenantCreated,
    create=_create,
    decide=decide.decide,
    evolve=evolve.EVOLVE,
    react=decide.react,
)
