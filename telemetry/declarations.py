"""The shapes in which metrics, log events and spans are declared; the tables themselves stand in `catalogue`.

Each row names what has to happen so that it is emitted (`scenario`, a name of `scenarios`); tests let it happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod


class Role(StrEnum):
    """A process role; each declaration names the roles that may emit it."""

    API = "api"
    SCHEDULER = "scheduler"
    PROJECTOR = "projector"
    WORKER = "worker"


ALL_ROLES = tuple(Role)
OTHER = "_other"
"""The label value that stands for all values beyond a bound."""


class Kind(StrEnum):
    """The type of a metric as Prometheus knows it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Overflow(StrEnum):
    """How a gauge's `_other` series is made from the series that no longer fit: counts add up, ages do not."""

    SUM = "sum"
    MAX = "max"


class UndeclaredError(LookupError):
    """A metric, label, span or log event was used that the catalogue doesn't declare (a bug of the caller)."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a metric.

    `values` closes the set of values; otherwise `bound` limits how many there may be. `collapses` says that values
    beyond the bound of the metric become `_other`; a label that doesn't collapse (partition) is bounded by
    configuration.
    `from_instance` labels are filled by `Metrics` from the process's identity and never passed by callers.
    """

    name: str
    bound: int = 1
    values: tuple[str, ...] = ()
    collapses: bool = True
    from_instance: bool = False

    @property
    def size(self) -> int:
        """How many values the label can have in one process, `_other` included."""
        return len(self.values) + 1 if self.values else self.bound


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: everything that registration, checks and documentation need to know about it."""

    name: str
    kind: Kind
    labels: tuple[Label, ...]
    owners: tuple[Role, ...]
    scenario: str
    meaning: str
    unit: str = ""
    buckets: tuple[float, ...] = ()
    max_series: int = 0
    overflow: Overflow = Overflow.SUM

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all labels, in the order of registration."""
        return tuple(label.name for label in self.labels)

    @property
    def given_labels(self) -> tuple[Label, ...]:
        """The labels that a caller passes, that is, all but the instance's."""
        return tuple(label for label in self.labels if not label.from_instance)

    @property
    def series_bound(self) -> int:
        """The largest number of label combinations that one process exports, the `_other` ones not counted."""
        return self.max_series or prod(label.size for label in self.labels)


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of log line: its level, default message and the context fields it always has."""

    name: str
    level: str
    message: str
    owners: tuple[Role, ...]
    scenario: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanName:
    """One kind of span: who makes it, which attributes it carries, what it is below, from when to when it lasts.

    `kind` is OpenTelemetry's. Every span has `sampling.reason` besides, and `error.type` if it went wrong.
    """

    name: str
    owners: tuple[Role, ...]
    scenario: str
    kind: str
    parent: str
    attributes: tuple[str, ...]
    meaning: str
