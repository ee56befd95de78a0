"""When a failed task is tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jobledger.domain.values import RetryPolicy

#: An attempt of a job without a limit of its own ends after this long.
DEFAULT_TIMEOUT_SECONDS = 86_400.0
#: How much later than the worker the owner ends an attempt: the worker's report may be on its way.
TIMEOUT_GRACE_SECONDS = 30.0
#: The longest wait for a next attempt that a handler can ask for.
MAX_RETRY_AFTER_SECONDS = 30 * 86_400.0
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
    try:
        plain = min(policy.initial_seconds * policy.factor ** (attempt - 1), policy.max_seconds)
    except OverflowError:  # beyond what a float holds is beyond max_seconds
        plain = policy.max_seconds if policy.initial_seconds else 0.0
    return plain * (1.0 + policy.jitter_ratio * jitter_fraction(execution_id, attempt))


def retry_at_ms(
    policy: RetryPolicy, attempt: int, execution_id: str, failed_at_ms: int, after_seconds: float | None = None
) -> int | None:
    """When to try again after attempt `attempt` failed, or None when it was the last one.

    `after_seconds`: the wait that the handler asked for, in place of the policy's; 0 to 30 days count.
    """
    if attempt >= policy.max_attempts:
        return None
    if after_seconds is None:
        return failed_at_ms + round(backoff_seconds(policy, attempt, execution_id) * 1000)
    return failed_at_ms + round(min(max(after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS) * 1000)


def gives_up(policy: RetryPolicy, error_type: str, error_bases: Sequence[str]) -> bool:
    """Whether the policy wants no further attempt after an error of this type."""
    return error_type in policy.give_up_on or any(base in policy.give_up_on for base in error_bases)


def timeout_at_ms(timeout_seconds: float | None, from_ms: int) -> int:
    """When the owner ends an attempt that began at `from_ms`."""
    limit = DEFAULT_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
    return from_ms + round((limit + TIMEOUT_GRACE_SECONDS) * 1000)


def unnoted_timeout_at_ms(timeout_seconds: float | None, ready_at_ms: int) -> int:
    """The same for an attempt whose start was not noted: it may have waited in its queue for as long as the default."""
    return timeout_at_ms(DEFAULT_TIMEOUT_SECONDS + (timeout_seconds or 0.0), ready_at_ms)
