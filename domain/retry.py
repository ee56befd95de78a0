"""When a failed task is tried again."""

from __future__ import annotations

import hashlib

from jobledger.domain.values import RetryPolicy

#: Assignments in a row that may end without a start before the dispatcher gives up.
MAX_DISPATCHES_WITHOUT_START = 10


def jitter_fraction(execution_id: str, attempt: int) -> float:
    """A number in [0, 1) that is the same for the same attempt, so that replay gives the same instant."""
    digest = hashlib.blake2b(f"{execution_id}/{attempt}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def backoff_seconds(policy: RetryPolicy, attempt: int, execution_id: str) -> float:
    """Seconds to wait after failed attempt number `attempt` (1, 2 …).

    Exponential: initial * factor^(attempt-1), at most max_seconds, then stretched by up to jitter_ratio
    (only stretched: a retry never comes before its plain back-off is over).
    """
    exponent = min(attempt - 1, 64)
    try:
        plain = min(policy.initial_seconds * policy.factor**exponent, policy.max_seconds)
    except OverflowError:  # a large factor: beyond what a float holds is beyond max_seconds
        plain = policy.max_seconds
    return plain * (1.0 + policy.jitter_ratio * jitter_fraction(execution_id, attempt))


def retry_at_ms(policy: RetryPolicy, attempt: int, execution_id: str, failed_at_ms: int) -> int | None:
    """When to try again after attempt `attempt` failed, or None when it was the last one."""
    if attempt >= policy.max_attempts:
        return None
    return failed_at_ms + round(backoff_seconds(policy, attempt, execution_id) * 1000)
