"""A field that holds its default is not written: a default is part of the format of every record there is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec

import jobledger.domain as package
from jobledger.domain.job.state import Job
from jobledger.domain.queue.state import Queue
from jobledger.domain.tenant.state import Tenant, TenantStatus
from jobledger.domain.values import Lineage, RetryPolicy

#: What a field means that is not there, where it is not None. A new field adds its own; none of these changes.
DEFAULTS: dict[str, dict[str, Any]] = {
    "Assignment": {"start_first": False},
    "Cell": {"created_seq": 0, "recent": []},
    "CreateQueue": {"description": ""},
    "CreateTenant": {"max_live_jobs": 0},
    "EnqueueTask": {"start_first": False},
    "Heartbeat": {"running": 0},
    "Job": {"lineage": Lineage(), "created_seq": 0, "tasks": {}, "run": 1, "recent": []},
    "Lineage": {"tags": {}},
    "Opaque": {"encoding": "json"},
    "Queue": {"description": "", "enqueued": 0, "created_seq": 0, "recent": []},
    "QueueCreated": {"description": ""},
    "QueueSettings": {"description": ""},
    "QueueTask": {"start_first": False, "assigned_at_ms": 0, "lost": False},
    "QueueUpdated": {"description": ""},
    "QueueWorker": {"lost": False},
    "ReadyTask": {"start_first": False},
    "Rejection": {"field": "", "value": ""},
    "ReportFailed": {"retryable": True, "error_bases": ()},
    "RetryPolicy": {
        "max_attempts": 3,
        "initial_seconds": 1.0,
        "factor": 2.0,
        "max_seconds": 300.0,
        "jitter_ratio": 0.1,
        "give_up_on": (),
    },
    "RunTask": {"start_first": False},
    "SubmitJob": {"priority": 3, "retry": RetryPolicy(), "lineage": Lineage()},
    "Task": {
        "attempt": 0,
        "assignment": 0,
        "unstarted": 0,
        "ready_at_ms": 0,
        "started": False,
        "started_at_ms": 0,
    },
    "TaskEnqueued": {"start_first": False},
    "TaskFailed": {"by_owner": False},
    "TaskLost": {"crashed": False},
    "TaskStarted": {"cancelling": False},
    "Tenant": {"status": TenantStatus.ACTIVE, "max_live_jobs": 0, "created_seq": 0, "recent": []},
    "TenantCreated": {"max_live_jobs": 0},
}


def _structs(cls: type[Any] = msgspec.Struct) -> Iterator[type[Any]]:
    for below in cls.__subclasses__():
        if below.__module__.startswith(f"{package.__name__}."):
            yield below
        yield from _structs(below)


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def test_no_default_changes_what_was_written_without_it() -> None:
    """Every default of every record and state of the domain, but None, is one of the table, and stays as it is."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found: dict[str, dict[str, Any]] = {}
    for cls in set(_structs()):
        values = {field.name: _default(field) for field in msgspec.structs.fields(cls)}
        found[cls.__name__] = {name: value for name, value in values.items() if value is not None}
    assert {name: values for name, values in found.items() if values} == DEFAULTS


def test_states_name_the_version_of_their_format() -> None:
    """A state that was stored by a later format is told from one of this."""
    assert {cls.__name__: cls.class_version for cls in (Job, Queue, Tenant)} == {"Job": 1, "Queue": 1, "Tenant": 1}
