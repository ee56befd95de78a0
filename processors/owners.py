"""The partition owners of a process, as services of its app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobledger.processors.core.machine import Machine
from jobledger.processors.core.owner import Owner
from jobledger.processors.services import AppService, PartService

MakeOwner = Callable[[int], Owner]


class OwnerSet(AppService):
    """Opens and closes owners as partitions come and go. A partition that stays keeps its owner and its memory.

    An owner deals with its errors; one that it cannot deal with ends the process.
    """

    def __init__(self, make_owner: MakeOwner) -> None:
        super().__init__()
        self._make_owner = make_owner
        self._owners: dict[int, Owner] = {}
        self._services: dict[int, PartService] = {}
        self._changing = asyncio.Lock()
        self._assigned_once = asyncio.Event()

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
            gone = [self._let_go(p) for p in list(self._owners) if p not in partitions]
            await asyncio.gather(*(self.remove_dependency(service) for service in gone))
            if self.should_stop:
                return
            for partition in sorted(partitions - set(self._owners)):
                await self.add_runtime_dependency(self._service(partition))
            self._assigned_once.set()

    def _service(self, partition: int) -> PartService:
        owner = self._owners[partition] = self._make_owner(partition)
        service = self._services[partition] = PartService(owner, f"owner-{partition}", may_end=True)
        service.on_failure = self.on_failure
        return service

    def _let_go(self, partition: int) -> PartService:
        del self._owners[partition]
        return self._services.pop(partition)

    async def on_stop(self) -> None:
        """Close all owners after their transactions under way, all at once."""
        async with self._changing:
            await asyncio.gather(*(service.stop() for service in self._services.values()))
            self._owners.clear()
            self._services.clear()

    async def settle(self) -> None:
        """Return when the group has settled once and what it gave us is served or was refused."""
        await self._assigned_once.wait()
        await asyncio.gather(*(owner.settled.wait() for owner in self._owners.values()))
