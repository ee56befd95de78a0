"""The worker's lease: what an acknowledged heartbeat gives, and what it gives no more."""

from __future__ import annotations

from dataclasses import dataclass

from jobledger.workers.lease import Lease


@dataclass
class _Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def _lease(clock: _Clock) -> Lease:
    return Lease(10, monotonic=clock)


def test_acknowledged_heartbeats_prolong_it() -> None:
    clock = _Clock()
    lease = _lease(clock)
    assert not lease.valid
    for _ in range(5):
        lease.confirm(clock.now)
        assert lease.remaining == 9.5
        clock.now += 9.0


def test_once_over_it_stays_over_for_that_incarnation() -> None:
    """A worker that was stopped beats at once when it goes on: that must not wipe out that its lease was over."""
    clock = _Clock()
    lease = _lease(clock)
    lease.confirm(clock.now)
    clock.now += 9.5
    lease.confirm(clock.now)
    assert not lease.valid
    clock.now += 0.1
    lease.confirm(clock.now)
    assert not lease.valid
    lease.begin()
    assert not lease.valid
    lease.confirm(clock.now)
    assert lease.valid


def test_a_late_answer_prolongs_a_lease_that_is_not_over() -> None:
    clock = _Clock()
    lease = _lease(clock)
    lease.confirm(clock.now)
    clock.now += 9.4
    lease.confirm(clock.now - 3.0)
    assert lease.valid
    clock.now += 6.0
    assert lease.valid


def test_a_revoked_one_is_not_given_back_before_another_incarnation_begins() -> None:
    clock = _Clock()
    lease = _lease(clock)
    lease.confirm(clock.now)
    lease.revoke()
    lease.confirm(clock.now)
    assert not lease.valid
    lease.begin()
    lease.confirm(clock.now)
    assert lease.valid


def test_an_answer_from_before_gives_nothing_and_harms_nothing() -> None:
    """The first heartbeats may be answered later than a lease is long; the next one counts."""
    clock = _Clock()
    lease = _lease(clock)
    lease.confirm(clock.now - 20.0)
    assert not lease.valid
    lease.confirm(clock.now - 1.0)
    assert lease.valid
