"""The scheduler of a process: owners for the partitions that the group gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobledger.processors.core.machine import Machine
from jobledger.processors.core.owner import Owner

MakeOwner = Callable[[int], Owner]


class OwnerSet:
    """Opens and closes owners as partitions come and go. A partition that stays keeps its owner and its memory."""

    def __init__(self, make_owner: MakeOwner) -> None:
        self._make_owner = make_owner
        self._owners: dict[int, Owner] = {}
        self._changing = asyncio.Lock()
        self._failed: asyncio.Future[None] | None = None
        self._stopped = False
        self._assigned_once = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def owners(self) -> dict[int, Owner]:
        """Owners by partition."""
        return self._owners

    def machines(self) -> dict[int, Machine]:
        """The memories of the partitions that are served, to look at."""
        return {p: owner.machine for p, owner in self._owners.items() if owner.machine is not None}

    def offer(self, partition: int, offset: int, value: bytes) -> None:
        """A command record, for the owner of its partition."""
        owner = self._owners.get(partition)
        if owner is not None:
            owner.offer(offset, value)

    def next_offset(self, partition: int) -> int | None:
        """The record that a partition's owner expects next."""
        owner = self._owners.get(partition)
        return None if owner is None else owner.next_offset

    async def assigned(self, partitions: set[int]) -> None:
        """The group has settled: close what went, open what came."""
        async with self._changing:
            gone = [self._owners.pop(p) for p in list(self._owners) if p not in partitions]
            await asyncio.gather(*(owner.stop() for owner in gone))
            if self._stopped:
                return
            for partition in sorted(partitions - set(self._owners)):
                owner = self._make_owner(partition)
                self._owners[partition] = owner
                await owner.start()
                self._watches.add(watch := asyncio.create_task(self._watch(owner)))
                watch.add_done_callback(self._watches.discard)
            self._assigned_once.set()

    async def _watch(self, owner: Owner) -> None:
        """An owner deals with its errors; one that it cannot deal with ends the process."""
        try:
            await owner.wait()
        except Exception as error:  # noqa: BLE001 - handed on to wait()
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)

    async def start(self) -> None:
        """Nothing is owned before the group says so."""
        self._failed = asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Close all owners after their transactions under way; may be called twice."""
        self._stopped = True
        async with self._changing:
            await asyncio.gather(*(owner.stop() for owner in self._owners.values()))
            self._owners.clear()
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(None)

    async def settle(self) -> None:
        """Return when the group has settled once and what it gave us is served or was refused; raise as `wait()`."""
        await self._assigned_once.wait()
        if self._failed is not None and self._failed.done():
            self._failed.result()
        await asyncio.gather(*(owner.settled.wait() for owner in self._owners.values()))

    async def wait(self) -> None:
        """Return when stopped; raise when this process must not own anything."""
        assert self._failed is not None
        await asyncio.shield(self._failed)
