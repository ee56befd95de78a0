from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jobledger.telemetry import log_table, metric_table
from jobledger.telemetry.catalogue import LOG_EVENTS, METRICS, SPANS, Kind, Role, reference_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "telemetry.md"
PACKAGES = ["eventlog", "processors", "projections", "graphql", "replay", "workers", "telemetry", "src/jobledger"]
LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARN",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "FATAL",
}


def test_the_reference_page_is_what_the_tables_render() -> None:
    assert PAGE.read_text() == reference_page(), (
        "run python -m jobledger.telemetry.catalogue > docs/reference/telemetry.md"
    )


def test_no_name_is_declared_twice() -> None:
    metrics = [m for name, rows in vars(metric_table).items() if name.endswith("_METRICS") for m in rows]
    events = [e for name, rows in vars(log_table).items() if name.endswith("_EVENTS") for e in rows]
    assert len(metrics) == len(METRICS)
    assert len(events) == len(LOG_EVENTS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_has_owner_meaning_bound_and_a_name_that_fits_its_kind(metric) -> None:
    assert metric.owners
    assert metric.meaning.endswith(".")
    assert 1 <= metric.series_bound <= 5000
    assert re.fullmatch(r"[a-z][a-z0-9_]+", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    if metric.kind is Kind.HISTOGRAM:
        assert metric.unit
        assert metric.name.endswith(f"_{metric.unit}")


@pytest.mark.parametrize("event", LOG_EVENTS.values(), ids=lambda event: event.name)
def test_a_log_event_has_owner_level_and_message(event) -> None:
    assert event.owners
    assert event.level in {"DEBUG", "INFO", "WARN", "ERROR", "FATAL"}
    assert event.message
    assert "payload" not in event.fields


def test_events_about_one_job_carry_the_tenant() -> None:
    for event in LOG_EVENTS.values():
        about_a_job = {"job_id", "execution_id", "stream_id"} & set(event.fields)
        assert not about_a_job or "tenant_id" in event.fields, event.name


def logged_events(source: str):
    """Line, method and literal event of each call on a name that is a logger by convention; both of `a if x else b`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=receiver, attr=method), args=[event, *_]) if method in LEVELS:
                name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
                if name.strip("_") in {"log", "logger"}:
                    yield from ((node.lineno, method, text) for text in choices(event))
            case ast.Call(func=ast.Name(id="told_once"), args=[event, *_]):
                yield from ((node.lineno, "error", text) for text in choices(event))
            case _:
                pass


def choices(node: ast.expr):
    """The strings that an expression can be, as far as it says them itself."""
    for part in (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_the_search_for_log_calls_finds_them_in_each_form() -> None:
    source = (
        'log.info("a", x=1)\nself._log.error("b")\nself.logger.exception("c")\nother.info("d")\nlog.info(event)\n'
        'log.error("e" if x else "f")\ntries_every(1, on=told_once("g", OSError))'
    )
    assert [(method, event) for _, method, event in logged_events(source)] == [
        ("info", "a"),
        ("error", "b"),
        ("exception", "c"),
        ("error", "e"),
        ("error", "f"),
        ("error", "g"),
    ]


def test_every_log_call_in_the_source_names_a_declared_event_at_its_declared_level() -> None:
    wrong = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "sample_handlers" in path.name:  # its lines are those of a handler
                continue
            for line, method, event in logged_events(path.read_text()):
                declared = LOG_EVENTS.get(event)
                if declared is None or (declared.level != LEVELS[method] and event != "handler_log"):
                    wrong.append(f"{path.relative_to(ROOT)}:{line} {method} {event}")
    assert not wrong, "declare these in telemetry/log_table.py"


#: Which roles run the modules below a folder; telemetry and eventlog run in all, but for what the api alone uses.
RUN_BY = {
    "processors": {"scheduler"},
    "workers": {"worker"},
    "projections": {"projector"},
    "projections/read_model.py": {"api", "projector"},
    "graphql": {"api"},
    "telemetry": {"scheduler", "worker", "projector", "api"},
    "eventlog": {"scheduler", "worker", "projector", "api"},
    "eventlog/tail.py": {"api"},
    "src/jobledger/bootstrap": {"scheduler", "worker", "projector", "api"},
    **{f"src/jobledger/bootstrap/{role}.py": {role} for role in ("scheduler", "worker", "projector", "api")},
}


def literals(source: str):
    """Every string that is an argument of a call, also as one of two (`a if x else b`)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            for argument in node.args:
                yield from choices(argument)


def texts(source: str):
    """Every string."""
    return (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))


def emitted_by(names, search) -> dict[str, set[str]]:
    """The roles that run a module in which the search finds each of these names."""
    found: dict[str, set[str]] = {}
    tables = {"log_table.py", "metric_table.py", "span_table.py", "catalogue.py"}
    for folder, of_folder in RUN_BY.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name in tables:
                continue
            roles = RUN_BY.get(path.relative_to(ROOT).as_posix(), of_folder)
            for text in search(path.read_text()):
                if text in names:
                    found.setdefault(text, set()).update(roles)
    return found


def test_every_declared_log_event_is_emitted_by_just_the_roles_that_it_names() -> None:
    found = emitted_by(LOG_EVENTS, lambda source: (event for _, _, event in logged_events(source)))
    found["library_log"] = set(map(str, Role))  # `library_logs` writes them, with the level that they come with
    declared = {event.name: set(map(str, event.owners)) for event in LOG_EVENTS.values()}
    wrong = {name: (roles, found.get(name, set())) for name, roles in declared.items() if roles != found.get(name)}
    assert not wrong, "declared and found"


def test_every_declared_metric_is_set_by_the_roles_that_it_names() -> None:
    found = emitted_by(METRICS, texts)
    always_zero = {("scheduler_db_connection_errors_total", "scheduler")}  # as its meaning says
    for metric in METRICS.values():
        for role in map(str, metric.owners):
            assert role in found.get(metric.name, set()) or (metric.name, role) in always_zero, (metric.name, role)


def test_every_declared_span_is_made_by_just_the_roles_that_it_names() -> None:
    found = emitted_by(SPANS, literals)
    assert found == {span.name: set(map(str, span.owners)) for span in SPANS.values()}
