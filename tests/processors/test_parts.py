"""What is stored beside a snapshot: a decision reads and writes what it touches, and nothing outlives its stream."""

from __future__ import annotations

import random
from typing import Any

import pytest
from made_up_kind import Begin, End, Finish, Remove, Step, StepFinished, plan_kind, register
from memory_owner import NOW, Decider, command

from jobledger.domain.levels import NEWEST
from jobledger.domain.values import Code
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.state_records import decode_state, part_key, snapshot_key, stub_key

PLAN = "plan:default:p"
AT_ONCE = 250
SECOND = 1_000


@pytest.fixture(params=[True, False], ids=["packed", "in memory"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are known: they rest as bytes, or they stay in memory."""
    register(monkeypatch, plan_kind(packed=request.param))


def tell(one: Decider, body: Any, identity: str, now: int = NOW) -> Plan:
    """Decide a command; gives the batch."""
    one.incoming.internal.append(command(PLAN, body, identity, reply=False))
    return one.turn(now)


def begun(steps: int, wake_at_ms: int | None = None, limits: Limits | None = None) -> Decider:
    """A partition with a plan of that many steps."""
    one = Decider(limits=limits)
    for first in range(0, steps, AT_ONCE):
        tell(one, Begin(first=first, steps=min(AT_ONCE, steps - first), wake_at_ms=wake_at_ms), f"begin/{first}")
    return one


def steps_in(machine: Any) -> dict[str, Step]:
    state = machine.load(PLAN)
    return {} if state is None else dict(state.steps)


def stored(one: Decider) -> int:
    """Records of steps in `state`."""
    return sum(key.startswith(b"x|") for key in one.state)


def test_a_report_costs_the_same_in_a_plan_of_10_and_of_10_000_steps() -> None:
    """Records read, records written and their bytes: none of them grows with the steps that it does not touch."""
    costs = []
    for count in (10, 10_000):
        one, reads = begun(count), list[bytes]()

        def counted(data: bytes, reads: list[bytes] = reads) -> Any:
            reads.append(data)
            return decode_state(data)

        one.machine.parts["x", PLAN]._decode = counted
        plan = tell(one, Finish(step="7"), "finish")
        assert set(plan.state) - {b"c|"} == {snapshot_key(PLAN), part_key("x", PLAN, "7")}
        costs.append((len(reads), len(plan.state[part_key("x", PLAN, "7")] or b"")))
        steps = steps_in(one.machine)
        assert (len(steps), steps["7"].status, steps["8"].status) == (count, "finished", "waiting")
    assert costs[0] == costs[1] == (1, costs[0][1])


def test_nothing_that_was_read_stays_in_memory_as_an_object() -> None:
    """Neither what a decision has touched nor what it has only looked at."""
    one = begun(40)
    tell(one, Finish(step="7"), "finish")
    tell(one, Finish(step="7"), "again")
    assert not any(records._open for records in one.machine.parts.values())
    assert not any(data == b"" for records in one.machine.parts.values() for data in records._resting.values())


def test_a_record_wakes_its_stream_once_and_also_after_a_takeover() -> None:
    """At its own time, if it wants it still; the stream is asked for this record alone."""
    one = begun(3, wake_at_ms=NOW + SECOND)
    tell(one, Finish(step="1"), "finish")
    assert one.machine.next_due_ms() == NOW + SECOND and len(one.machine.timers) == 2
    one.machine = one.rebuilt()
    assert one.machine.next_due_ms() == NOW + SECOND and len(one.machine.timers) == 2
    one.turn(NOW + SECOND - 1)
    assert {step.status for step in steps_in(one.machine).values()} == {"waiting", "finished"}
    assert one.turn(NOW + SECOND).timers_fired == 2
    assert [step.status for step in steps_in(one.machine).values()] == ["woken", "finished", "woken"]
    assert one.turn(NOW + 2 * SECOND).timers_fired == 0 and not one.machine.timers


def test_a_timer_that_failed_and_was_set_aside_does_not_come_back() -> None:
    """Neither at once nor after a takeover; that of another record goes on."""
    one = begun(2, wake_at_ms=NOW + SECOND)
    one.machine.note_aside(f"timer/x|{PLAN}|0/{NOW + SECOND}")
    tell(one, Begin(first=2, steps=1), "more")
    for machine in (one.rebuilt(), one.machine):
        one.machine = machine
        assert one.machine.next_due_ms() == NOW + SECOND
    assert one.turn(NOW + SECOND).timers_fired == 1
    assert [step.status for step in steps_in(one.machine).values()] == ["waiting", "woken", "waiting"]


@pytest.mark.parametrize("takeover", [False, True])
def test_an_ended_stream_leaves_its_stub_and_no_records(takeover: bool) -> None:
    """They are deleted some with each batch, by another owner too; what was made in the last batch is never written."""
    one = begun(1_000, wake_at_ms=NOW + SECOND, limits=Limits(expiries=300))
    one.incoming.internal.append(command(PLAN, Finish(step="5"), "finish", reply=False))
    one.incoming.internal.append(command(PLAN, End(), "end", reply=False))
    plan = one.turn()
    assert stub_key(PLAN) in one.state and snapshot_key(PLAN) not in one.state
    assert plan.state[part_key("x", PLAN, "5")] is None
    assert stored(one) == 699, "300, and the one that the batch had touched"
    assert one.machine.unfinished and not one.machine.timers and not one.machine.parts
    if takeover:
        one.machine = one.rebuilt()
        assert one.machine.unfinished and not one.machine.timers and not one.machine.parts
    batches = 0
    while one.machine.unfinished:
        assert len(one.turn().state) <= 301
        batches += 1
    assert stored(one) == 0 and batches == 3
    assert not one.rebuilt().unfinished


def test_a_record_that_goes_in_the_batch_in_which_its_stream_ends_is_deleted() -> None:
    """And so is its timer: a stream that begins again under the same name has nothing of it."""
    one = begun(3, wake_at_ms=NOW + SECOND)
    one.incoming.internal.append(command(PLAN, Remove(step="1"), "remove", reply=False))
    one.incoming.internal.append(command(PLAN, End(), "end", reply=False))
    one.turn()
    while one.machine.unfinished:
        one.turn()
    assert stored(one) == 0 and not one.machine.timers
    assert not one.rebuilt().timers


def test_records_of_the_first_event_are_stored() -> None:
    """What a stream has from its beginning on is there in the same batch, the next one, and after a takeover."""
    one = Decider()
    one.incoming.internal.append(command(PLAN, Begin(steps=1, with_plan=["a", "b"]), "begin", reply=False))
    one.incoming.internal.append(command(PLAN, Finish(step="a"), "finish", reply=False))
    one.turn()
    for machine in (one.machine, one.rebuilt()):
        assert {key: step.status for key, step in steps_in(machine).items()} == {
            "a": "finished",
            "b": "waiting",
            "0": "waiting",
        }


def test_an_event_of_a_level_that_is_not_enabled_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release before may take over, and would not know it: whoever asks is told what to enable."""
    one = begun(1)
    monkeypatch.setattr(StepFinished, "format_level", NEWEST + 1)
    one.incoming.internal.append(command(PLAN, Finish(step="0"), "early"))
    plan = one.turn()
    (told,) = plan.outcomes
    assert told.rejection is not None and told.rejection.code is Code.NOT_ENABLED
    assert f"jobledger cluster enable {NEWEST + 1}" in told.rejection.message and not plan.events
    one.machine.checkpoint.level = NEWEST + 1
    one.incoming.internal.append(command(PLAN, Finish(step="0"), "later"))
    assert [record.data for record in one.turn().records] == [StepFinished(step="0")]


def test_a_takeover_finds_what_is_there(seed: int = 3) -> None:
    """After each of a hundred random decisions, a machine made from `state` has the same records and timers."""
    chance = random.Random(seed)
    one = begun(5, wake_at_ms=NOW + SECOND)
    for number in range(100):
        if chance.random() < 0.3:
            wake = None if chance.random() < 0.5 else NOW + chance.randint(1, 100)
            tell(one, Begin(first=len(steps_in(one.machine)), steps=chance.randint(1, 3), wake_at_ms=wake), f"{number}")
        else:
            tell(one, Finish(step=chance.choice(list(steps_in(one.machine)))), f"{number}", NOW + number)
        rebuilt = one.rebuilt()
        assert steps_in(rebuilt) == steps_in(one.machine)
        assert sorted(rebuilt.timers) == sorted(one.machine.timers)
