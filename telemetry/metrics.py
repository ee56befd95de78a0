"""The process's metrics, registered from the catalogue."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from jobledger.telemetry.catalogue import METRICS, OTHER, Kind, Metric, Overflow, Role, UndeclaredError

_Collector = Counter | Gauge | Histogram


class Series:
    """One series of a metric: call `inc`, `observe` or `set`, as its kind allows; the others raise `TypeError`.

    Get it from `Metrics.bind` and keep it in hot loops. After its series was dropped, updates through it go nowhere.
    """

    __slots__ = ("inc", "observe", "set")

    inc: Callable[..., None]
    """`inc(amount=1)`, counters and gauges."""
    observe: Callable[..., None]
    """`observe(seconds, exemplar_trace_id=None)`, histograms."""
    set: Callable[..., None]
    """`set(value)`, gauges."""

    def __init__(self, name: str, **methods: Callable[..., None]) -> None:
        def refuse(*_args: object, **_named: object) -> None:
            raise TypeError(f"{name} allows {', '.join(sorted(methods))} only.")

        self.inc = methods.get("inc", refuse)
        self.observe = methods.get("observe", refuse)
        self.set = methods.get("set", refuse)


class _LoneGauge(Gauge):
    """A gauge without labels, which the library would show as 0 before anybody has set it."""

    shown = False

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """As the library does, without a value that there is not."""
        for family in super().collect():
            if not self.shown:
                family.samples = []
            yield family


class _Family:
    """One registered metric with its open series, by the values of the labels that callers give."""

    def __init__(self, metric: Metric, instance: Mapping[str, str], registry: CollectorRegistry, strict: bool) -> None:
        self.metric = metric
        self.strict = strict
        self.names = tuple(label.name for label in metric.given_labels)
        self.series: dict[tuple[str, ...], Series] = {}
        self._instance = {label.name: instance[label.name] for label in metric.labels if label.from_instance}
        self._collector = _register(metric, registry)
        self._shared: dict[tuple[str, ...], Series] = {}
        self._parts: dict[tuple[str, ...], dict[tuple[str, ...], float]] = {}
        self._lock = threading.Lock()
        # A counter that nothing has happened to is 0, and rates need to see that 0 before the first failure. A gauge
        # that nobody has set has no value, so it has no series.
        if metric.kind is not Kind.GAUGE and all(label.values for label in metric.given_labels):
            for key in product(*(label.values for label in metric.given_labels)):
                self.open(key)

    def find(self, labels: Mapping[str, object]) -> Series:
        """The series for these labels, opened if new."""
        key = self.key(labels)
        return self.series.get(key) or self.open(key)

    def key(self, labels: Mapping[str, object]) -> tuple[str, ...]:
        """The label values in order; raises `UndeclaredError` for missing or undeclared labels."""
        if len(labels) == len(self.names):
            try:
                return tuple([str(labels[name]) for name in self.names])
            except KeyError:
                pass  # reported below together with the case of a wrong number
        raise UndeclaredError(f"{self.metric.name} takes the labels {list(self.names)}, not {sorted(labels)}.")

    def open(self, key: tuple[str, ...]) -> Series:
        """Open the series of `key`, or the `_other` one it falls into."""
        with self._lock:
            if key in self.series:
                return self.series[key]
            admitted = self._admit(key)
            if admitted == key:
                self.series[key] = self._make(self._child(key))
                return self.series[key]
            if self.metric.kind is Kind.GAUGE:
                return self._open_part(admitted, key)
            if admitted not in self._shared:
                self._shared[admitted] = self._make(self._child(admitted))
            return self._shared[admitted]

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """What the library gives out."""
        return self._collector.collect()

    def drop(self, key: tuple[str, ...]) -> None:
        """Forget the series of `key`; nothing happens if there is none."""
        with self._lock:
            if self.series.pop(key, None) is not None:
                self._remove(key)
            for admitted in [admitted for admitted, parts in self._parts.items() if parts.pop(key, None) is not None]:
                self._remove_if_empty(admitted)

    def drop_matching(self, wanted: Mapping[str, str]) -> None:
        """Forget each series whose labels have all the wanted values."""
        places = {self.names.index(name): value for name, value in wanted.items()}

        def matches(key: tuple[str, ...]) -> bool:
            return all(key[place] == value for place, value in places.items())

        keys = {*self.series, *(key for parts in self._parts.values() for key in parts)}
        for key in filter(matches, keys):
            self.drop(key)
        with self._lock:
            for admitted in list(filter(matches, self._shared)):
                del self._shared[admitted]
                self._remove(admitted)

    def _admit(self, key: tuple[str, ...]) -> tuple[str, ...]:
        labels = self.metric.given_labels
        known = []
        for label, value in zip(labels, key, strict=True):
            unknown = bool(label.values) and value not in label.values and value != OTHER
            if unknown and self.strict:
                raise UndeclaredError(
                    f"{self.metric.name}: {label.name} is one of {list(label.values)}, not {value!r}."
                )
            known.append(OTHER if unknown else value)
        if tuple(known) == key and len(self.series) >= self.metric.series_bound:
            known = [
                OTHER if label.collapses and not label.values else value
                for label, value in zip(labels, known, strict=True)
            ]
        return tuple(known)

    def _child(self, key: tuple[str, ...]) -> _Collector:
        if not self.metric.labels:
            if isinstance(self._collector, _LoneGauge):
                self._collector.shown = True
            return self._collector
        child: _Collector = self._collector.labels(**self._instance, **dict(zip(self.names, key, strict=True)))
        return child

    def _make(self, child: _Collector) -> Series:
        if isinstance(child, Histogram):
            return Series(self.metric.name, observe=_observer(child))
        if isinstance(child, Gauge):
            return Series(self.metric.name, inc=child.inc, set=child.set)
        return Series(self.metric.name, inc=child.inc)

    def _open_part(self, admitted: tuple[str, ...], key: tuple[str, ...]) -> Series:
        """A gauge beyond the bound keeps its value here; the `_other` series is the sum or maximum of such values."""
        parts = self._parts.get(admitted)
        if parts is None:
            parts = self._parts[admitted] = {}
            child = self._child(admitted)
            assert isinstance(child, Gauge)
            combine = sum if self.metric.overflow is Overflow.SUM else max
            child.set_function(lambda: float(combine(list(parts.values()) or [0.0])))

        def put(value: float) -> None:
            parts[key] = value

        def add(amount: float = 1) -> None:
            parts[key] = parts.get(key, 0.0) + amount

        return Series(self.metric.name, inc=add, set=put)

    def _remove_if_empty(self, admitted: tuple[str, ...]) -> None:
        if not self._parts[admitted]:
            del self._parts[admitted]
            self._remove(admitted)

    def _remove(self, key: tuple[str, ...]) -> None:
        if isinstance(self._collector, _LoneGauge):
            self._collector.shown = False
        elif self.metric.labels:
            values = {**self._instance, **dict(zip(self.names, key, strict=True))}
            self._collector.remove(*[values[name] for name in self.metric.label_names])


def _observer(child: Histogram) -> Callable[..., None]:
    def observe(seconds: float, exemplar_trace_id: str | None = None) -> None:
        child.observe(seconds, {"trace_id": exemplar_trace_id} if exemplar_trace_id else None)

    return observe


def _register(metric: Metric, registry: CollectorRegistry) -> _Collector:
    match metric.kind:
        case Kind.COUNTER:
            return Counter(metric.name, metric.meaning, metric.label_names, registry=registry)
        case Kind.GAUGE:
            kind = Gauge if metric.labels else _LoneGauge
            return kind(metric.name, metric.meaning, metric.label_names, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(metric.name, metric.meaning, metric.label_names, registry=registry, buckets=metric.buckets)


class Metrics:
    """All metrics that the given roles own, under one registry.

    `instance_id` is the stable slot name of the process (`scheduler-1`) and becomes `scheduler_id` or `worker_id`;
    `pool` is the worker pool. With `strict` a value outside a closed set of label values raises instead of
    becoming `_other`.
    Raises `UndeclaredError` for a name, label or kind that the catalogue doesn't give to these roles.
    """

    def __init__(
        self,
        *roles: Role | str,
        instance_id: str,
        version: str = "0",
        pool: str = "default",
        registry: CollectorRegistry | None = None,
        strict: bool = False,
    ) -> None:
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            raise ValueError("PROMETHEUS_MULTIPROC_DIR must not be set: exemplars don't exist in that mode; unset it.")
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        self._roles = tuple(Role(role) for role in roles)
        instance = {"scheduler_id": instance_id, "worker_id": instance_id, "pool": pool}
        self._families = {
            metric.name: _Family(metric, instance, self.registry, strict)
            for metric in METRICS.values()
            if not set(metric.owners).isdisjoint(self._roles)
        }
        prometheus_client.ProcessCollector(registry=self.registry)
        for role in self._roles:
            self.set("jobledger_build_info", 1, version=version, role=role)

    def inc(self, name: str, value: float = 1, /, **labels: object) -> None:
        """Add to a counter or gauge."""
        self._family(name).find(labels).inc(value)

    def observe(self, name: str, seconds: float, /, exemplar_trace_id: str | None = None, **labels: object) -> None:
        """Record one value of a histogram, with the trace that it belongs to if that one is sampled."""
        self._family(name).find(labels).observe(seconds, exemplar_trace_id)

    def set(self, name: str, value: float, /, **labels: object) -> None:
        """Set a gauge."""
        self._family(name).find(labels).set(value)

    def bind(self, name: str, /, **labels: object) -> Series:
        """The series itself, for hot loops; bind again after a drop."""
        return self._family(name).find(labels)

    def read(self, name: str, /) -> Iterator[tuple[dict[str, str], float]]:
        """The series of a counter or gauge as they are now, each with all its labels."""
        for family in self._family(name).collect():
            yield from ((sample.labels, sample.value) for sample in family.samples)

    def drop(self, name: str, /, **labels: object) -> None:
        """End one series: it is no longer exported. Nothing happens if there is none."""
        family = self._family(name)
        family.drop(family.key(labels))

    def drop_matching(self, names: Iterable[str] | None = None, /, **wanted: object) -> None:
        """End each series (of `names`, or of all metrics with these labels) whose labels have the wanted values.

        `drop_matching(partition=3)` when partition 3 leaves; raises `UndeclaredError` if no metric has such labels.
        """
        families = self._families.values() if names is None else [self._family(name) for name in names]
        chosen = [family for family in families if wanted.keys() <= set(family.names)]
        if not wanted or not chosen:
            raise UndeclaredError(f"No metric of {', '.join(self._roles)} has the labels {sorted(wanted)}.")
        for family in chosen:
            family.drop_matching({name: str(value) for name, value in wanted.items()})

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: Prometheus text, or OpenMetrics (with exemplars) if `accept` asks."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _family(self, name: str) -> _Family:
        try:
            return self._families[name]
        except KeyError:
            if name not in METRICS:
                raise UndeclaredError(f"Metric {name} is not declared; add it to telemetry/metric_table.py.") from None
            raise UndeclaredError(f"Metric {name} belongs to {', '.join(METRICS[name].owners)}.") from None
