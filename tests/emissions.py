"""What a process of the tests emits: names of metrics, log events and spans, with the moment of the last time.

The process of pytest keeps them in memory. Others (roles, processes of a worker's pool) write them to the file that
`EMISSIONS_VARIABLE` names, and pytest reads them there. The clock is the monotonic one, which all processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from role_forks import EMISSIONS_VARIABLE
from structlog._base import BoundLoggerBase

from jobledger.telemetry import logs, metrics
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.log_line import Sink
from jobledger.telemetry.sampling import SamplingReason
from jobledger.telemetry.traces import Tracing

#: A name is written to the file at most once in this time.
REPEAT_SECONDS = 0.1

_last: dict[str, float] = {}
_keeper = 0
_read_bytes = 0


def keep_in(path: Path) -> None:
    """From now on this process keeps what it emits, and reads from the file what others do."""
    global _keeper  # noqa: PLW0603 - one process has one
    _keeper = os.getpid()
    os.environ[EMISSIONS_VARIABLE] = str(path)
    path.touch()
    watch()


def watch() -> None:
    """Take note of all that this process emits."""
    BoundLoggerBase._proxy_to_logger = _noting_line(BoundLoggerBase._proxy_to_logger)  # type: ignore[method-assign]
    Sink.line = _noting_event(Sink.line)  # type: ignore[method-assign]
    Tracing.export = _noting_span(Tracing.export)  # type: ignore[method-assign]
    for maker in ("_make", "_open_part"):
        setattr(metrics._Family, maker, _noting_series(getattr(metrics._Family, maker)))


def seen_since(moment: float) -> set[str]:
    """Names that were emitted since a moment of the monotonic clock."""
    global _read_bytes  # noqa: PLW0603
    path = Path(os.environ[EMISSIONS_VARIABLE])
    if path.stat().st_size > _read_bytes:
        with path.open("rb") as file:
            file.seek(_read_bytes)
            whole = file.read().rpartition(b"\n")[0]
        _read_bytes += len(whole) + 1
        for line in whole.splitlines():
            at, _, name = line.decode().partition(" ")
            _last[name] = max(_last.get(name, 0.0), float(at))
    return {name for name, at in _last.items() if at >= moment}


def note(name: str) -> None:
    """A name was emitted: by this process, or by one that is not watched and whose line a test has read."""
    now = time.monotonic()
    if os.getpid() == _keeper:
        _last[name] = now
    elif now - _last.get(name, 0.0) > REPEAT_SECONDS and (path := os.environ.get(EMISSIONS_VARIABLE)):
        _last[name] = now
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{now} {name}\n".encode())
        os.close(file)


def forget(name: str) -> None:
    """It was emitted on purpose, by a test of what becomes of undeclared names."""
    _last.pop(name, None)


def _noting_line(proxy: Callable[..., Any]) -> Callable[..., Any]:
    """Of our own loggers alone, also where nobody has configured logging or a test captures lines."""

    def noting(logger: Any, method: str, event: str | None = None, /, *given: Any, **context: Any) -> Any:
        done = proxy(logger, method, event, *given, **context)
        if logger._logger is logs._OURS:
            note(str(event))
        return done

    return noting


def _noting_event(line: Callable[..., bytes]) -> Callable[..., bytes]:
    def noting(sink: Sink, level: Any, event: str, *rest: Any) -> bytes:
        note(event)
        return line(sink, level, event, *rest)

    return noting


def _noting_span(export: Callable[..., None]) -> Callable[..., None]:
    def noting(tracing: Tracing, span: FinishedSpan, reason: SamplingReason) -> None:
        export(tracing, span, reason)
        if tracing.recording:
            note(span.name)

    return noting


def _noting_series(make: Callable[..., metrics.Series]) -> Callable[..., metrics.Series]:
    """A counter that is increased by 0 is not an emission; a gauge that is set to 0 is one."""

    def making(family: Any, *given: Any) -> metrics.Series:
        series, name = make(family, *given), family.metric.name
        inc, observe, put = series.inc, series.observe, series.set

        def noted_inc(amount: float = 1) -> None:
            inc(amount)
            if amount:
                note(name)

        def noted_observe(value: float, exemplar_trace_id: str | None = None) -> None:
            observe(value, exemplar_trace_id)
            note(name)

        def noted_set(value: float) -> None:
            put(value)
            note(name)

        series.inc, series.observe, series.set = noted_inc, noted_observe, noted_set
        return series

    return making
