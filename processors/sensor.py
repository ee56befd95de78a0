"""Faust's sensor, feeding the metrics of the scheduler."""

from __future__ import annotations

import time
from typing import Any

from faust.sensors import Monitor
from faust.types import TP

from jobledger.telemetry.metrics import Metrics


class FeedSensor(Monitor):
    """In the place of Faust's monitor, whose books on each record nobody would read: they cost more than the agent.

    Of them it keeps the time of the last record of a partition: Faust looks at it for streams that stand still.
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._records = metrics.bind("jobledger_command_records_total")
        self._rebalance = metrics.bind("jobledger_rebalance_seconds")

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        """A record has arrived."""
        self._records.inc()

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: Any) -> None:
        """The agent gets a record."""
        self.stream_inbound_time[tp] = time.monotonic()

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """The agent is done with a record."""

    def on_message_out(self, tp: TP, offset: int, message: Any) -> None:
        """Nobody needs a record any more."""

    def track_tp_end_offset(self, tp: TP, offset: int) -> None:
        """The lag of the group is that of its owners' checkpoints."""

    def on_rebalance_end(self, app: Any, state: dict[str, Any]) -> None:
        """The group has settled, and what it gave to this scheduler is being read."""
        super().on_rebalance_end(app, state)
        self._rebalance.observe(state["latency_end"])
