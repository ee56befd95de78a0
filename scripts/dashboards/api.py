"""The API: requests, how long they take, who is turned away, and what listens."""

from __future__ import annotations

from expressions import per_second, quantile, ratio
from panels import Page, Panel

_FAILED = per_second("api_requests_total", labels='status_code=~"5.."')

_REQUESTS = (
    Panel(
        "Requests",
        "reqps",
        {"{{endpoint}}": per_second("api_requests_total", by="endpoint")},
        "By endpoint; a GraphQL request counts once for each root field.",
    ),
    Panel(
        "By status",
        "reqps",
        {"{{status_code}}": per_second("api_requests_total", by="status_code")},
        "The outcome as an HTTP status.",
    ),
    Panel(
        "Share of failures of ours",
        "percentunit",
        {"5xx": ratio(f"({_FAILED} or vector(0))", per_second("api_requests_total"))},
        "What availability is made from.",
        bad_over=0.0001,
    ),
    Panel(
        "Duration (P99)",
        "s",
        {"{{endpoint}}": quantile(0.99, "api_request_duration_seconds", by="endpoint")},
        "From the request read to the answer made.",
        width=12,
    ),
    Panel(
        "Duration (P50)",
        "s",
        {"{{endpoint}}": quantile(0.5, "api_request_duration_seconds", by="endpoint")},
        "From the request read to the answer made.",
        width=12,
    ),
)

_ADMISSION = (
    Panel(
        "Let in",
        "reqps",
        {"{{method}}": per_second("api_auth_success_total", by="method")},
        "By how the caller proved who it is; none: no keys are set.",
    ),
    Panel(
        "Turned away",
        "reqps",
        {"{{method}} {{reason}}": per_second("api_auth_failure_total", by="method, reason")},
        "Keys that are missing or wrong.",
    ),
    Panel(
        "Over the rate limit",
        "reqps",
        {"{{tenant_id}}": per_second("api_rate_limit_exceeded_total", by="tenant_id")},
        "By tenant.",
    ),
    Panel(
        "Subscriptions",
        "short",
        {"open": "sum (jobledger_subscriptions)"},
        "Open now, over all instances.",
    ),
)

PAGE = Page(
    "jobledger-api",
    "Jobledger / API",
    "Requests, admission and subscriptions.",
    {"Requests": _REQUESTS, "Admission and subscriptions": _ADMISSION},
)
