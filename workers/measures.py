"""The worker's metrics, bound once: they are touched several times for each task."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobledger.telemetry.metrics import Metrics, Series
from jobledger.telemetry.traceparent import sampled_trace_id


class Measures:
    """Counts what runs and what has ended."""

    def __init__(self, metrics: Metrics, slots: int, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._slots = slots
        self._clock = clock
        self.running = 0
        self._received = metrics.bind("worker_tasks_received_total")
        self._concurrent = metrics.bind("worker_concurrent_executions")
        self._utilization = metrics.bind("worker_utilization_percent")
        self._last_completed = metrics.bind("worker_last_task_completed_timestamp")
        self._heartbeat = metrics.bind("worker_heartbeat_timestamp")
        self._saved = metrics.bind("worker_checkpoint_success_total")
        self._not_saved = metrics.bind("worker_checkpoint_failures_total")
        self._durations: dict[str, Series] = {}
        self._completed: dict[str, Series] = {}
        metrics.set("worker_max_concurrent_executions", slots)
        self._show()

    def received(self) -> None:
        """A task came in."""
        self._received.inc()

    def started(self) -> None:
        """A handler starts."""
        self.running += 1
        self._show()

    def ended(self) -> None:
        """A handler has ended."""
        self.running -= 1
        self._show()

    def completed(self, status: str, handler: str, seconds: float, traceparent: str | None) -> None:
        """An attempt of a trace has ended and is reported."""
        if status not in self._completed:
            self._completed[status] = self._metrics.bind("worker_tasks_completed_total", status=status)
        if handler not in self._durations:
            self._durations[handler] = self._metrics.bind("worker_execution_duration_seconds", job_type=handler)
        self._completed[status].inc()
        self._durations[handler].observe(seconds, sampled_trace_id(traceparent))
        self._last_completed.set(self._clock())

    def heartbeat(self) -> None:
        """A heartbeat has been acknowledged."""
        self._heartbeat.set(self._clock())

    def checkpoint_saved(self) -> None:
        """The log has a checkpoint."""
        self._saved.inc()

    def checkpoint_failed(self) -> None:
        """A checkpoint was not sent."""
        self._not_saved.inc()

    def _show(self) -> None:
        self._concurrent.set(self.running)
        self._utilization.set(100 * self.running / self._slots)
