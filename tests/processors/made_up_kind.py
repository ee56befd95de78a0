"""A kind of stream that only tests know: a plan with steps beside its snapshot, as many as are wanted."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import msgspec
import pytest

from jobledger.domain import aggregates
from jobledger.domain.kind import Ending, Kind, Part, PartTimer, Recorded, Remains
from jobledger.domain.values import Code, CommandBody, EventBody, Rejection
from jobledger.processors.core import state_records
from jobledger.schemas import events as event_schemas

STEPS = "plan_step"


class Begin(CommandBody, frozen=True, kw_only=True, tag_field="type", tag="plan.begin.v1"):
    steps: int
    first: int = 0
    with_plan: list[str] = []
    wake_at_ms: int | None = None


class Finish(CommandBody, frozen=True, kw_only=True, tag_field="type", tag="plan.finish.v1"):
    step: str


class Wake(CommandBody, frozen=True, kw_only=True, tag_field="type", tag="plan.wake.v1"):
    step: str
    due_at_ms: int


class Remove(CommandBody, frozen=True, kw_only=True, tag_field="type", tag="plan.remove.v1"):
    step: str


class End(CommandBody, frozen=True, kw_only=True, tag_field="type", tag="plan.end.v1"):
    pass


class Begun(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.begun.v1"):
    steps: list[str] = []


class StepAdded(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.step_added.v1"):
    step: str
    wake_at_ms: int | None = None


class StepFinished(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.step_finished.v1"):
    step: str


class StepWoken(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.step_woken.v1"):
    step: str


class StepRemoved(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.step_removed.v1"):
    step: str


class Ended(EventBody, frozen=True, kw_only=True, tag_field="type", tag="plan.ended.v1"):
    pass


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    status: Literal["waiting", "woken", "finished"] = "waiting"
    wake_at_ms: int | None = None


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    version: int
    created_seq: int = 0
    recent: list[str] = []
    finished: int = 0
    ended: bool = False

    class_version = 1


class PlanState:
    def __init__(self, plan: Plan, steps: MutableMapping[str, Step]) -> None:
        self.head, self.steps = plan, steps


def _create(record: Recorded) -> PlanState:
    return PlanState(Plan(id=record.originator_id, version=1), {step: Step() for step in record.data.steps})


def _decide(stream: str, state: PlanState | None, command: Any, now: int) -> list[Any] | Rejection:
    if isinstance(command, Begin):
        numbers = range(command.first, command.first + command.steps)
        added = [StepAdded(step=str(number), wake_at_ms=command.wake_at_ms) for number in numbers]
        return added if state else [Begun(steps=command.with_plan), *added]
    if state is None:
        return Rejection(code=Code.NOT_FOUND_OR_EXPIRED, message="no plan")
    if isinstance(command, Finish):
        return [] if state.steps[command.step].status == "finished" else [StepFinished(step=command.step)]
    if isinstance(command, Remove):
        return [StepRemoved(step=command.step)]
    if isinstance(command, Wake):
        return [StepWoken(step=command.step)]
    return [Ended()]


def _on_added(state: PlanState, event: StepAdded) -> None:
    state.steps[event.step] = Step(wake_at_ms=event.wake_at_ms)


def _on_finished(state: PlanState, event: StepFinished) -> None:
    step = state.steps[event.step]
    step.status, step.wake_at_ms = "finished", None
    state.head.finished += 1


def _on_woken(state: PlanState, event: StepWoken) -> None:
    step = state.steps[event.step]
    step.status, step.wake_at_ms = "woken", None


def _on_removed(state: PlanState, event: StepRemoved) -> None:
    del state.steps[event.step]


def _on_ended(state: PlanState, event: Ended) -> None:
    state.head.ended = True


def _named(event: Any) -> tuple[str]:
    return (event.step,)


def _assemble(plan: Plan, parts: Mapping[str, MutableMapping[str, Any]]) -> PlanState:
    return PlanState(plan, parts[STEPS])


def _remains(state: PlanState) -> Remains | None:
    return Remains("ENDED", None, []) if state.head.ended else None


def plan_kind(*, packed: bool) -> Kind:
    """`packed`: plans rest as bytes, as jobs do; else they stay in memory, as queues do."""
    timer = PartTimer(lambda step: step.wake_at_ms, lambda key, due: Wake(step=key, due_at_ms=due))  # type: ignore[arg-type,return-value]
    return Kind(
        name="plan",
        snapshot=Plan,
        created_by=Begun,
        create=_create,
        decide=_decide,
        evolve={
            StepAdded: _on_added,
            StepFinished: _on_finished,
            StepWoken: _on_woken,
            StepRemoved: _on_removed,
            Ended: _on_ended,
        },
        react=lambda state, event: [],
        packed=packed,
        parts=(
            Part(
                STEPS,
                "x",
                Step,
                lambda state: state.steps,
                {
                    Begun: lambda event: event.steps,
                    **dict.fromkeys((StepAdded, StepFinished, StepWoken, StepRemoved), _named),
                },
                packed=True,
                timer=timer,
            ),
        ),
        assemble=_assemble,
        ending=Ending(_remains, lambda stream, status, command: Rejection(code=Code.ALREADY_ENDED, message="over")),
    )


def register(patch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Until the test is over, the product knows this kind too."""
    patch.setitem(aggregates.AGGREGATES, kind.name, kind)
    patch.setitem(aggregates._CREATE, kind.created_by, kind.create)
    for event, evolve in kind.evolve.items():
        patch.setitem(aggregates._EVOLVE, event, evolve)
    for event in (kind.created_by, *kind.evolve):
        tag = event.__struct_config__.tag
        patch.setitem(event_schemas._CE_TYPE, event, ("ce_type", f"dev.jobledger.{tag}".encode()))
    for name, record in ((kind.name, kind.snapshot), *((part.name, part.record) for part in kind.parts)):
        patch.setitem(state_records._PREFIX, record, state_records.prefix(name, record))
        for form, decoder in state_records.decoders(name, record).items():
            patch.setitem(state_records._DECODERS, form, decoder)
    for part in kind.parts:
        patch.setitem(state_records.PARTS, part.letter.encode(), part)
    if kind.packed:
        newest = state_records.prefix(kind.name, kind.snapshot)
        patch.setitem(state_records._PACKED, newest, msgspec.json.Decoder(kind.snapshot))
