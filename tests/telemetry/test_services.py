"""Everything that runs for long keeps the contract of `Service`: it is found by its `start` and `stop`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mode
import pytest

import jobledger
from jobledger.dev.server import Server
from jobledger.dev.stack import make_stack
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.topic_watch import TopicWatch
from jobledger.graphql.directory import QueueDirectory
from jobledger.processors.turns import TurnWatch
from jobledger.projections.read_model import ReadModel
from jobledger.telemetry.health import Health
from jobledger.telemetry.health_server import HealthServer
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import (
    AlreadyStartedError,
    CompoundService,
    Service,
    StandingService,
    TaskService,
    ThreadService,
)

#: They hand over for a service, which starts and stops them, and tells of their end itself.
TRANSPORTS = {
    "jobledger.processors.core.relay.Transport",
    "jobledger.processors.relay.KafkaTransport",
    "jobledger.simulator.ports.MemoryTransport",
}
#: Programs for one machine and one person: they block, and no loop turns in them.
BLOCKING = "jobledger.dev."


def modules() -> Iterator[str]:
    """All that can be imported; through the links, and where there is no __init__.py."""
    root = Path(jobledger.__file__).parent
    for folder, _, files in os.walk(root, followlinks=True):
        for file in files:
            path = Path(folder, file).relative_to(root.parent)
            name = ".".join(path.with_suffix("").parts)
            if path.suffix == ".py" and path.stem not in {"__init__", "__main__"} and not name.startswith(BLOCKING):
                yield name


def found() -> list[type[Any]]:
    """The classes of ours that can be started and stopped; those of Faust are started and stopped by Faust."""
    classes: dict[str, type[Any]] = {}
    for module in modules():
        for one in vars(importlib.import_module(module)).values():
            if inspect.isclass(one) and one.__module__.startswith("jobledger.") and one is not Service:
                name = f"{one.__module__}.{one.__qualname__}"
                of_ours = hasattr(one, "start") and hasattr(one, "stop") and not issubclass(one, mode.Service)
                if of_ours and inspect.iscoroutinefunction(one.start):
                    classes[name] = one
    return [classes[name] for name in sorted(classes.keys() - TRANSPORTS)]


def test_all_that_can_be_started_and_stopped_are_services() -> None:
    services = found()
    assert {RecordProducer, TopicWatch, QueueDirectory, TurnWatch, ReadModel, HealthServer} <= set(services)
    for service in services:
        assert issubclass(service, Service), f"{service} can be started and stopped, but not waited for"
        for name in ("start", "stop", "wait"):
            method = getattr(service, name)
            assert inspect.iscoroutinefunction(method), f"{service.__name__}.{name}"
            assert list(inspect.signature(method).parameters) == ["self"], f"{service.__name__}.{name} takes arguments"


class Task(TaskService):
    async def start(self) -> None:
        self._begin(asyncio.sleep(3600), "task")


class Thread(ThreadService):
    async def start(self) -> None:
        self._begin(lambda: (self._stopping.wait(), None)[1], "thread")


class Compound(CompoundService):
    async def start(self) -> None:
        self._stand()
        await self._begin_member(Thread())
        self._follow(asyncio.sleep(3600), "beside")


async def nothing(*_: Any) -> None:
    return None


#: Nobody answers there.
KAFKA: dict[str, str | int | float | bool] = {"bootstrap.servers": "127.0.0.1:9", "log_level": 0}
MAKE: dict[str, Callable[[], Service]] = {
    "standing": StandingService,
    "task": Task,
    "thread": Thread,
    "compound": Compound,
    "turns": TurnWatch,
    "producer": lambda: RecordProducer(KAFKA),
    "directory": lambda: QueueDirectory(nothing, nothing, str, float),
    "read model": lambda: ReadModel("postgresql://127.0.0.1:9/none"),
    "health server": lambda: HealthServer(Health("1"), Metrics("worker", instance_id="w"), port=0),
}


@pytest.mark.parametrize("name", MAKE)
async def test_a_service_starts_once_stops_as_often_as_one_likes_and_is_waited_for(name: str) -> None:
    idle = MAKE[name]()
    assert isinstance(idle, Service)
    await asyncio.wait_for(idle.stop(), 10)
    await asyncio.wait_for(idle.wait(), 10)

    service = MAKE[name]()
    before = threading.enumerate()
    await asyncio.wait_for(service.start(), 10)
    with pytest.raises(AlreadyStartedError):
        await service.start()
    waiting = asyncio.ensure_future(service.wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.wait(), 0.02)
    assert not waiting.done()
    for _ in range(2):
        await asyncio.wait_for(service.stop(), 10)
    await asyncio.wait_for(waiting, 10)
    await asyncio.wait_for(service.wait(), 10)
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert all(name.startswith("asyncio_") for name in left), "only the executor of the loop keeps its threads"


async def test_what_breaks_a_thread_or_a_member_is_told_by_wait_and_not_by_stop() -> None:
    broken = threading.Event()

    class Breaking(ThreadService):
        async def start(self) -> None:
            self._begin(self._work, "breaking")

        def _work(self) -> None:
            broken.wait()
            raise ValueError("a thread has its limits")

    class Whole(CompoundService):
        async def start(self) -> None:
            self._stand()
            await self._begin_member(StandingService())
            await self._begin_member(Breaking())

    whole = Whole()
    await whole.start()
    waiting = asyncio.ensure_future(whole.wait())
    broken.set()
    with pytest.raises(ValueError, match="its limits"):
        await asyncio.wait_for(waiting, 10)
    await whole.stop()
    for _ in range(2):
        with pytest.raises(ValueError, match="its limits"):
            await whole.wait()


def test_the_servers_of_the_stack_keep_one_contract(tmp_path: Path) -> None:
    """They have `kill` in place of `wait`, for they are processes, and may be started again."""
    stack = make_stack(tmp_path, 1, 2, 3)
    for server in (stack, stack.broker, stack.postgres):
        assert isinstance(server, Server)
        for name in ("start", "stop", "kill"):
            promised = inspect.signature(getattr(Server, name)).parameters
            assert list(inspect.signature(getattr(type(server), name)).parameters) == list(promised)
        assert not server.running
        for _ in range(2):
            server.stop()
            server.kill()
