"""What is decided when a timer falls due."""

from __future__ import annotations

from collections.abc import Callable

from jobledger.domain.aggregates import State, kind_of
from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import SYSTEM
from jobledger.processors.core.memory import timer_id
from jobledger.processors.core.state_records import PARTS, split_part_name
from jobledger.schemas.commands import Command


def woken(due_ms: int, owner: str, peek: Callable[[str], State | None]) -> Command | None:
    """The command of a timer; None when its owner, a stream or a record of a part, does not want it any more.

    `peek` gives the live state of a stream.
    """
    name = split_part_name(owner)
    stream = owner if name is None else name[1]
    state = peek(stream)
    if state is None:
        return None
    body = _of_stream(stream, state, due_ms) if name is None else _of_part(*name, state, due_ms)
    return None if body is None else Command(id=timer_id(owner, due_ms), stream=stream, actor=SYSTEM, body=body)


def _of_stream(stream: str, state: State, due_ms: int) -> AnyCommand | None:
    timer = kind_of(stream).timer
    return None if timer is None or timer.next_ms(state) != due_ms else timer.command(due_ms)


def _of_part(letter: str, stream: str, key: str, state: State, due_ms: int) -> AnyCommand | None:
    part = PARTS[letter.encode()]
    record = part.of(state).get(key)
    if part.timer is None or record is None or part.timer.next_ms(record) != due_ms:
        return None
    return part.timer.command(key, due_ms)
