"""Thousands of random histories of the simulated world, found and shrunk by Hypothesis.

A failing run prints the seed of the whole search; the same seed finds the same failure again:

    JOBLEDGER_SIM_SEED=<seed> .venv/bin/pytest tests/simulator -k random
"""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from jobledger.simulator import World
from jobledger.simulator.chaos import ACTIONS, CHOICES, Action, finish, make_world

SEED_VARIABLE = "JOBLEDGER_SIM_SEED"
FIXED_SEED = 20260101
EXAMPLES = 1_010
MIN_STEPS = 30
MAX_STEPS = 33
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=MAX_STEPS,
    deadline=None,
    database=None,  # a seed alone replays a failure: nothing depends on what an earlier run has left
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
)
_choice = st.integers(0, CHOICES - 1)


class Chaos(RuleBasedStateMachine):
    """Every action of `jobledger.simulator.chaos` is a rule; at the end all faults heal and all must agree."""

    counts: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.steps = 0
        self.failed = False

    @initialize(choice=_choice)
    def begin(self, choice: int) -> None:
        self.world = make_world(choice)

    def act(self, name: str, a: int, b: int) -> None:
        self.steps += 1
        try:
            ACTIONS[name][1](self.world, a, b)
        except BaseException:
            self.failed = True
            raise

    def teardown(self) -> None:
        if self.failed or sys.exc_info()[0] is not None:
            return
        finish(self.world)
        self.counts.update(examples=1, steps=self.steps, events=len(self.world.records), jobs=len(self.world.jobs()))
        self.counts["short"] += self.steps < MIN_STEPS


def _as_rule(name: str, action: Action) -> Any:
    def step(self: Chaos, a: int, b: int) -> None:
        self.act(name, a, b)

    step.__name__, step.__doc__ = name, action.__doc__
    return rule(a=_choice, b=_choice)(step)


def search(with_seed: int) -> Counter[str]:
    """Run the examples of one seed; returns counts of examples, steps, jobs and events."""
    rules = {name: _as_rule(name, action) for name, (_, action) in ACTIONS.items()}
    counts: Counter[str] = Counter()
    machine = seed(with_seed)(type("SeededChaos", (Chaos,), {**rules, "counts": counts}))
    try:
        run_state_machine_as_test(machine, settings=SETTINGS, _min_steps=MIN_STEPS)
    except BaseException as error:
        error.add_note(f"Find it again: {SEED_VARIABLE}={with_seed} .venv/bin/pytest tests/simulator -k random")
        raise
    print(f"seed {with_seed}: {dict(counts)}")
    return counts


@pytest.mark.timeout(300)
def test_no_fault_breaks_a_promise_with_the_fixed_seed() -> None:
    """Whatever dies, stalls, lies, repeats or comes late: every invariant holds, with the seed of every release."""
    counts = search(FIXED_SEED)
    assert counts["examples"] >= 1_000
    assert counts["short"] <= counts["examples"] // 100
    assert counts["steps"] >= MIN_STEPS * 1_000


@pytest.mark.timeout(300)
def test_no_fault_breaks_a_promise_with_a_random_seed() -> None:
    """The same with another seed each time, or with that of the variable."""
    given = os.environ.get(SEED_VARIABLE)
    counts = search(int(given) if given else secrets.randbelow(2**32))
    assert counts["examples"] >= 1_000
