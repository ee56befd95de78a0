"""Every event there is. The union's tags are the public names of the types."""

from __future__ import annotations

from jobledger.domain.cell.events import AnyCellEvent
from jobledger.domain.job.events import AnyJobEvent
from jobledger.domain.queue.events import AnyQueueEvent
from jobledger.domain.tenant.events import AnyTenantEvent

AnyEvent = AnyJobEvent | AnyQueueEvent | AnyTenantEvent | AnyCellEvent
