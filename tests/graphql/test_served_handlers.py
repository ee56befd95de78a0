from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobledger.domain.queue.commands import QueryQueue
from jobledger.domain.values import Code, Opaque, Rejection
from jobledger.graphql.served_handlers import SERVED_SECONDS, UNSERVED_SECONDS, ServedHandlers
from jobledger.schemas.outcomes import Outcome, OutcomeStatus


class Owner:
    """Answers as it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.says: Any = {"serving": 0}
        self.silent = asyncio.Event()
        self.silent.set()
        self.now = 100.0
        self.served = ServedHandlers(self.ask, lambda: "id", lambda: self.now)

    async def ask(self, stream: str, query: QueryQueue, command_id: str, seconds: float) -> Outcome | None:
        self.asked.append((stream, query.handler))
        await self.silent.wait()
        if self.says is None:
            return None
        known: dict[str, Any] = {"command_id": command_id, "stream": stream, "partition": 0, "seq": 1, "at_ms": 1}
        if isinstance(self.says, Rejection):
            return Outcome(status=OutcomeStatus.REJECTED, rejection=self.says, **known)
        data = Opaque(str(self.says).replace("'", '"'))
        return Outcome(status=OutcomeStatus.ACCEPTED, answer=data, **known)

    async def warning(self, handler: str = "wrok") -> str | None:
        self.served.look("t", "q", handler)
        return await self.served.warning("t", "q", handler)


async def test_a_name_that_nobody_serves_is_said() -> None:
    """And asked for again a moment later, for a worker may just have come."""
    owner = Owner()
    assert await owner.warning() == (
        "No worker serves handler 'wrok' on queue 'q' now: the job waits until one does. Is the name right?"
    )
    assert owner.asked == [("queue:t:q", "wrok")]
    assert await owner.warning() is not None and len(owner.asked) == 1
    owner.now += UNSERVED_SECONDS
    owner.says = {"serving": 2}
    assert await owner.warning() is None
    owner.now += SERVED_SECONDS / 2
    assert await owner.warning() is None and len(owner.asked) == 2


@pytest.mark.parametrize("says", [None, {}, {"serving": 1}, Rejection(code=Code.UNDECIDABLE, message="not now")])
async def test_without_a_clear_answer_nothing_is_said(says: Any) -> None:
    """An owner that does not answer, is of an earlier release, or can't decide now."""
    owner = Owner()
    owner.says = says
    assert await owner.warning() is None


async def test_a_queue_that_is_not_there_is_served_by_nobody() -> None:
    owner = Owner()
    owner.says = Rejection(code=Code.NOT_FOUND_OR_EXPIRED, message="No queue 'q'")
    assert await owner.warning() is not None


async def test_a_slow_owner_holds_nobody_up_and_is_asked_once() -> None:
    """The submission goes on without the hint; the late answer serves the next one."""
    owner = Owner()
    owner.silent.clear()
    assert await asyncio.gather(owner.warning(), owner.warning()) == [None, None]
    assert len(owner.asked) == 1
    owner.silent.set()
    assert await owner.warning() is not None
    assert len(owner.asked) == 1
