"""The parts of an api process, as its requests need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobledger.graphql.changing import Changing
from jobledger.graphql.event_stream import EventStreams
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.graphql.quarantine import Quarantine
from jobledger.graphql.submitting import Submitting
from jobledger.projections.read_model import ReadModel
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import Service
from jobledger.telemetry.traces import Tracing


@dataclass(slots=True)
class Parts:
    """Everything that requests need. `services` are in the order of their start."""

    settings: Settings
    metrics: Metrics
    tracing: Tracing
    clock_ms: Callable[[], int]
    new_id: Callable[[], str]
    model: ReadModel
    outcomes: OutcomeTail
    tail: EventTail
    gateway: Gateway
    submitting: Submitting
    changing: Changing
    events: EventStreams
    quarantine: Quarantine
    services: list[Service]
