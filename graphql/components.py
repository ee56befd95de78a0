"""The components of an api process, as its requests need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobledger.graphql.access import Access
from jobledger.graphql.event_stream import EventStreams
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.job_commands import JobCommands
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.graphql.quarantine import Quarantine
from jobledger.graphql.queue_commands import QueueCommands
from jobledger.graphql.request_spans import RequestSpans
from jobledger.graphql.service_levels import ServiceLevels
from jobledger.graphql.submissions import Submissions
from jobledger.graphql.trace_store import TraceStore
from jobledger.projections.read_model import ReadModel
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service


@dataclass(slots=True)
class Components:
    """Everything that requests need. `services` are in the order of their start; `traces` are kept in dev alone."""

    settings: Settings
    metrics: Metrics
    access: Access
    spans: RequestSpans
    traces: TraceStore | None
    clock_ms: Callable[[], int]
    new_id: Callable[[], str]
    model: ReadModel
    outcomes: OutcomeTail
    tail: EventTail
    gateway: Gateway
    submissions: Submissions
    jobs: JobCommands
    queues: QueueCommands
    events: EventStreams
    quarantine: Quarantine
    levels: ServiceLevels
    services: list[Service]
