"""given / when / then for decisions: events, then a command, then what it must come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgspec
import pytest

from jobledger.domain.aggregates import AGGREGATES, State, mutate
from jobledger.domain.effects import Effect
from jobledger.domain.values import SYSTEM, Answer, Code, Lineage, Rejection
from jobledger.schemas.events import EventRecord

NOW = 1_000_000
STREAMS = {"job": "job:default:0199", "queue": "queue:default:default", "tenant": "tenant:default:default"}


def record(stream: str, version: int, event: Any) -> EventRecord:
    return EventRecord(
        id=f"0-{version}",
        originator_id=stream,
        originator_version=version,
        seq=version,
        tenant="default",
        at_ms=NOW,
        command_id=f"c{version}",
        actor=SYSTEM,
        data=event,
        lineage=Lineage(),
    )


def fold(kind: str, given: Sequence[Any]) -> State | None:
    state: State | None = None
    for version, event in zip(count(1), given, strict=False):
        state = mutate(state, record(STREAMS[kind], version, event))
    return state


class Domain:
    """What a test needs of one aggregate."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stream = STREAMS[kind]

    def state(self, given: Sequence[Any]) -> Any:
        """The state after the events."""
        return fold(self.kind, given)

    def decide(self, given: Sequence[Any], when: Any, now: int = NOW) -> Any:
        """What the command means after the events; a decision must not change the state."""
        state = fold(self.kind, given)
        before = _seen(state)
        decision = AGGREGATES[self.kind].decide(self.stream, state, when, now)
        assert _seen(state) == before, "a decision changed the state"
        return decision

    def assert_events(self, given: Sequence[Any], when: Any, then: Sequence[Any], now: int = NOW) -> None:
        """The command comes to exactly these events, and they can be folded."""
        decision = self.decide(given, when, now)
        assert decision == list(then), decision
        fold(self.kind, [*given, *decision])

    def assert_rejected(self, given: Sequence[Any], when: Any, code: Code, field: str = "") -> None:
        """The command is rejected with this code, in a sentence, and names the field."""
        decision = self.decide(given, when)
        assert isinstance(decision, Rejection), decision
        assert (decision.code, decision.field) == (code, field)
        assert decision.message.endswith(".")

    def assert_answer(self, given: Sequence[Any], when: Any) -> dict[str, Any]:
        """The command is a question; its answer, decoded."""
        decision = self.decide(given, when)
        assert isinstance(decision, Answer)
        answer: dict[str, Any] = msgspec.json.decode(decision.data.data)
        return answer

    def effects(self, given: Sequence[Any]) -> list[Effect]:
        """What follows from the last of the events."""
        return AGGREGATES[self.kind].react(fold(self.kind, given), given[-1])


def _seen(state: Any) -> bytes:
    if hasattr(state, "lanes"):
        return msgspec.json.encode([state.queue, state.lanes.tasks, state.workers, state.lanes.held])
    return msgspec.json.encode(state)


@pytest.fixture
def domain() -> Callable[[str], Domain]:
    return Domain
