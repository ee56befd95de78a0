"""A service made of others stops all of them, however badly one of them stops."""

from __future__ import annotations

import asyncio

import pytest

from jobledger.telemetry.service import CompoundService, StandingService


class Member(StandingService):
    def __init__(self, error: BaseException | None = None) -> None:
        self.stopped = False
        self._error = error

    async def start(self) -> None:
        self._stand()

    async def stop(self) -> None:
        self.stopped = True
        self._end()
        if self._error is not None:
            raise self._error


class Compound(CompoundService):
    def __init__(self, *members: Member) -> None:
        super().__init__()
        self.members = members

    async def start(self) -> None:
        self._stand()
        for member in self.members:
            await self._begin_member(member)


async def test_one_that_does_not_stop_well_keeps_no_other_running() -> None:
    """All are told; the first error is raised, and nobody waits any more."""
    members = (Member(), Member(ValueError("first told")), Member(RuntimeError("second")))
    compound = Compound(*members)
    await compound.start()
    with pytest.raises(RuntimeError, match="second"):
        await compound.stop()
    assert all(member.stopped for member in members)
    await asyncio.wait_for(compound.wait(), 1)
