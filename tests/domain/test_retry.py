from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger.domain.job.retry import backoff_seconds, gives_up, jitter_fraction, retry_at_ms, timeout_at_ms
from jobledger.domain.values import RetryPolicy

POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    initial_seconds=st.floats(0, 86_400),
    factor=st.floats(1, 1e12),
    max_seconds=st.floats(0, 30 * 86_400),
    jitter_ratio=st.floats(0, 1),
)
ATTEMPTS = st.integers(1, 1000)
EXECUTIONS = st.text(max_size=40)


@settings(database=None, derandomize=True)
@given(POLICIES, ATTEMPTS, EXECUTIONS)
def test_back_off_stays_within_its_bounds(policy: RetryPolicy, attempt: int, execution: str) -> None:
    """Never below the plain exponential back-off, never above its ceiling stretched by the whole jitter."""
    seconds = backoff_seconds(policy, attempt, execution)
    assert 0 <= seconds <= policy.max_seconds * (1 + policy.jitter_ratio) * (1 + 1e-9)
    if attempt == 1:
        assert seconds >= min(policy.initial_seconds, policy.max_seconds) * (1 - 1e-9)


@settings(database=None, derandomize=True)
@given(POLICIES, ATTEMPTS, EXECUTIONS)
def test_plain_back_off_never_shrinks(policy: RetryPolicy, attempt: int, execution: str) -> None:
    """Without jitter a later attempt waits at least as long, however large factor and attempt are."""
    plain = RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_seconds=policy.initial_seconds,
        factor=policy.factor,
        max_seconds=policy.max_seconds,
        jitter_ratio=0.0,
    )
    assert backoff_seconds(plain, attempt, execution) <= backoff_seconds(plain, attempt + 1, execution)


@settings(database=None, derandomize=True)
@given(EXECUTIONS, ATTEMPTS)
def test_jitter_is_a_fraction_that_replay_repeats(execution: str, attempt: int) -> None:
    assert 0 <= jitter_fraction(execution, attempt) < 1
    assert jitter_fraction(execution, attempt) == jitter_fraction(execution, attempt)


def test_jitter_spreads_a_herd() -> None:
    """A thousand tasks that fail together come back spread over the whole jitter, not in clumps."""
    tenths = [int(jitter_fraction(f"execution-{n}", 1) * 10) for n in range(1000)]
    assert all(60 <= tenths.count(tenth) <= 140 for tenth in range(10))


@settings(database=None, derandomize=True)
@given(POLICIES, ATTEMPTS, st.integers(0, 2**42))
def test_the_last_attempt_has_no_retry_and_others_come_later(policy: RetryPolicy, attempt: int, now: int) -> None:
    at = retry_at_ms(policy, attempt, "x", now)
    assert (at is None) == (attempt >= policy.max_attempts)
    assert at is None or at >= now


def test_known_values() -> None:
    policy = RetryPolicy(max_attempts=10, initial_seconds=1, factor=2, max_seconds=5, jitter_ratio=0)
    assert [backoff_seconds(policy, attempt, "x") for attempt in (1, 2, 3, 4, 9)] == [1, 2, 4, 5, 5]
    slow = RetryPolicy(max_attempts=1000, initial_seconds=1, factor=1.01, max_seconds=600, jitter_ratio=0)
    assert [round(backoff_seconds(slow, attempt, "x"), 2) for attempt in (65, 66, 101, 700)] == [1.89, 1.91, 2.7, 600]
    at_once = RetryPolicy(max_attempts=1000, initial_seconds=0, factor=1e12, jitter_ratio=0)
    assert {backoff_seconds(at_once, attempt, "x") for attempt in (1, 2, 30, 1000)} == {0}


def test_known_instants() -> None:
    """The same attempt comes back at the same millisecond in every version: a jitter of its own, from its id."""
    policy = RetryPolicy(max_attempts=10, initial_seconds=100, factor=2, jitter_ratio=0.5)
    assert [retry_at_ms(policy, attempt, "execution-1", 1_000) for attempt in (1, 2, 3)] == [139_620, 280_015, 335_492]


def test_an_attempt_without_a_limit_of_its_own_has_a_day() -> None:
    """Its own limit or a day, and half a minute for the worker's report to come."""
    assert timeout_at_ms(None, 1_000) == 1_000 + 86_400_000 + 30_000
    assert timeout_at_ms(0.5, 1_000) == 1_000 + 500 + 30_000


def test_a_policy_gives_up_on_a_type_or_on_a_base_of_it() -> None:
    """Any one of the names is enough, and no other error is given up on."""
    policy = RetryPolicy(give_up_on=("CardDeclined", "KeyError"))
    assert gives_up(policy, "CardDeclined", ())
    assert gives_up(policy, "Refused", ("ValueError", "KeyError", "Exception"))
    assert not gives_up(policy, "Refused", ("ValueError", "Exception"))
    assert not gives_up(RetryPolicy(), "Refused", ("Exception",))
