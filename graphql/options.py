"""Options of a job that the first release did not have: digests of requests and answers take them as they come."""

from __future__ import annotations

from msgspec import to_builtins
from msgspec.structs import fields
from strawberry.utils.str_converters import to_camel_case

from jobledger.domain.spec import JobSpec

_FIRST = {"handler", "payload", "timeout_seconds", "queue", "priority", "retry", "key_digest", "request_digest"}
#: What each of the others is when it is not given.
LATER = {one.name: one.default for one in fields(JobSpec) if one.name not in _FIRST}


def later_options(spec: JobSpec) -> dict[str, object]:
    """Those that are given, by their names in the domain."""
    return {name: value for name, left_out in LATER.items() if (value := getattr(spec, name)) != left_out}


def shown_options(spec: JobSpec) -> dict[str, object]:
    """The same as JSON, by the names of the API."""
    return {to_camel_case(name): to_builtins(value) for name, value in later_options(spec).items()}
