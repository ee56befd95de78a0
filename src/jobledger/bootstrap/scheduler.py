"""The role `jobledger scheduler`: owners of partitions; put together in `processors/role.py`."""

from __future__ import annotations

from jobledger.processors.role import GRACE_SECONDS, main, run

__all__ = ["GRACE_SECONDS", "main", "run"]
