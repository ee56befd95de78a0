"""Every command body there is, and how many commands a stream remembers."""

from __future__ import annotations

from jobledger.domain.cell.commands import AnyCellCommand
from jobledger.domain.job.commands import AnyJobCommand
from jobledger.domain.queue.commands import AnyQueueCommand
from jobledger.domain.tenant.commands import AnyTenantCommand

AnyCommand = AnyJobCommand | AnyQueueCommand | AnyTenantCommand | AnyCellCommand

#: How many of the `remembered` commands a stream remembers.
REMEMBERED_PER_STREAM = 16
