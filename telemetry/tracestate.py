"""The two members of W3C `tracestate` that are ours: which scheduler handed the work out, and why a trace is kept."""

from __future__ import annotations

import re

from jobledger.telemetry.sampling import SamplingReason

SCHEDULER_KEY = "scheduler"
REASON_KEY = "jobledger"
_NOT_IN_A_VALUE = re.compile(r"[^!-+\--<>-~]")
_MAX_VALUE = 256
#: What W3C asks everybody to hand on at least, and a command takes.
MAX_LENGTH = 512
_REASONS = {reason.value: reason for reason in SamplingReason}


def scheduler_member(instance: str) -> str:
    """`scheduler=<instance>`; a character that can't stand in a value becomes `_`."""
    return f"{SCHEDULER_KEY}={_NOT_IN_A_VALUE.sub('_', instance)[:_MAX_VALUE]}"


def with_reason(tracestate: str, reason: SamplingReason) -> str:
    """A tracestate that says in its first member why the trace is kept; the last ones go where it would be too long."""
    members = [one for one in tracestate.split(",") if one and not one.startswith(f"{REASON_KEY}=")]
    members.insert(0, f"{REASON_KEY}={reason.value}")
    while len(",".join(members)) > MAX_LENGTH:
        members.pop()
    return ",".join(members)


def reason_in(tracestate: str) -> SamplingReason | None:
    """Why the trace is kept, as a tracestate says; None if it says nothing that is known here."""
    for member in tracestate.split(","):
        key, _, value = member.strip().partition("=")
        if key == REASON_KEY:
            return _REASONS.get(value)
    return None
