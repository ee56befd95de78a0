"""The Faust app of a scheduler, without Kafka: what it is made of, how its services start, fail and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from faust.types import TP

from jobledger.processors import supervised_app
from jobledger.processors.app import create_app
from jobledger.processors.clock import SystemClock
from jobledger.processors.command_schema import CommandSchema
from jobledger.processors.scheduler_services import SchedulerServices
from jobledger.processors.sensor import FeedSensor
from jobledger.processors.services import PartService
from jobledger.processors.supervised_app import SupervisedApp
from jobledger.schemas.commands import CommandRecord, encode_record
from jobledger.settings import KafkaSettings, Settings
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import StandingService
from jobledger.telemetry.supervision import PartFailedError

NOWHERE = "kafka://127.0.0.1:9"


class Part(StandingService):
    """Notes what is done to it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    async def start(self) -> None:
        self._stand()
        self.calls.append(f"start {self.name}")

    async def stop(self) -> None:
        self.calls.append(f"stop {self.name}")
        await super().stop()

    def fail(self) -> None:
        self._end(OSError(f"{self.name} is broken"))


class Refusing(Part):
    async def start(self) -> None:
        await super().start()
        raise OSError("no port")


class Waiting(Part):
    async def start(self) -> None:
        await super().start()
        await asyncio.Event().wait()


class Hanging(Part):
    async def stop(self) -> None:
        await super().stop()
        await asyncio.Event().wait()


MakeApp = Callable[..., SupervisedApp]


def let_go(app: Any) -> None:
    """The thread of a consumer that was not started has a loop already, which nobody closes."""
    app.consumer._thread.thread_loop.close()


@pytest.fixture
async def an_app() -> AsyncIterator[MakeApp]:
    """Makes apps of parts that start before Faust does, so that there is no need for a broker."""
    apps: list[SupervisedApp] = []

    def make(*parts: Part) -> SupervisedApp:
        app = SupervisedApp("test", broker=NOWHERE)
        apps.append(app)
        app.before_group += app.supervise(*map(PartService, parts))
        return app

    yield make
    for app in apps:
        let_go(app)


class RecordProducer(StandingService):
    """Without a client's threads, which would look for a broker as long as the tests run."""

    def __init__(self, config: Any) -> None:
        pass


async def test_the_app_is_one_that_a_faust_user_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One agent on one topic with a schema, a sensor, and a tree of services: the owners before the consumer."""
    for module in ("scheduler_services", "relay"):
        monkeypatch.setattr(f"jobledger.processors.{module}.RecordProducer", RecordProducer)
    settings = Settings(cell="c", partitions=4, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    metrics = Metrics("scheduler", instance_id="s", strict=True)
    app: Any = create_app(settings, SchedulerServices(settings, metrics, SystemClock()), metrics)
    app.finalize()
    agent = app.agents["commands"]
    assert agent.channel.topics == ("c.commands",) and isinstance(agent.channel.schema, CommandSchema)
    assert isinstance(app.monitor, FeedSensor)
    names = [getattr(service, "name", type(service).__name__) for service in app.boot_strategy.server()]
    ours = ["topics", "RecordProducer", "HeartbeatBook", "clock", "KafkaRelay", "OwnerSet"]
    assert names[: len(ours)] == ours
    assert names.index("OwnerSet") < names.index("CommandConsumer") < names.index("FeedWatch")
    assert names[-5:] == ["FeedWatch", "Gauges", "log-gauges", "coverage", "FirstTurn"]
    let_go(app)


@pytest.mark.parametrize("value", [b"", b"\xff not a record", encode_record(CommandRecord(commands=[]))])
def test_a_record_arrives_as_it_stands_in_the_log(value: bytes) -> None:
    """Whatever it is: its owner reads it, or puts it aside."""

    class Message:
        key = None

    message = cast(Any, Message())
    message.value = value or None
    assert CommandSchema().loads_value(None, message) == value


def test_a_record_is_written_from_its_type() -> None:
    """As others write it."""
    record = CommandRecord(commands=[], source=1, number=2)
    assert CommandSchema().dumps_value(None, record, headers=None) == (encode_record(record), None)


def test_the_sensor_feeds_our_metrics() -> None:
    """Records that have come, and how long a rebalance took; and what Faust itself asks its monitor for."""
    metrics = Metrics("scheduler", instance_id="s", strict=True)
    sensor: Any = FeedSensor(metrics)
    tp = TP("c.commands", 0)
    for offset in range(3):
        sensor.on_message_in(tp, offset, None)
        sensor.on_stream_event_out(tp, offset, None, None, sensor.on_stream_event_in(tp, offset, None, None))
    assert tp in sensor.stream_inbound_time

    class App:
        rebalancing_count = 1

    state = sensor.on_rebalance_start(App())
    sensor.on_rebalance_return(App(), state)
    sensor.on_rebalance_end(App(), state)
    text = metrics.render()[0].decode()
    assert "jobledger_command_records_total 3" in text and "jobledger_rebalance_seconds_count 1" in text


async def test_services_start_in_order_and_stop_in_reverse(an_app: MakeApp) -> None:
    """What has not started is not stopped; the one that refused is."""
    calls: list[str] = []
    app = an_app(Part("a", calls), Refusing("b", calls), Part("c", calls))
    with pytest.raises(PartFailedError, match="no port") as failure:
        await app.start()
    assert failure.value.part == "b" and type(failure.value.__cause__) is OSError
    await app.stop()
    assert calls == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.parametrize("end", [Part.fail, StandingService._end], ids=["fails", "ends by itself"])
async def test_a_failure_ends_the_start_of_what_comes_after(an_app: MakeApp, end: Callable[[Part], None]) -> None:
    """The next part may wait for the one that has failed for ever."""
    calls: list[str] = []
    first = Part("a", calls)
    app = an_app(first, Waiting("b", calls))
    starting = asyncio.ensure_future(app.start())
    await asyncio.sleep(0.05)
    assert not starting.done()
    end(first)
    with pytest.raises(PartFailedError, match=r"is broken|ended by itself") as failure:
        await asyncio.wait_for(starting, 5)
    assert failure.value.part == "a"
    with pytest.raises(PartFailedError):
        await app.failed()
    assert not app.crashed, "Faust's own services are not marked as crashed: the group can still be left"
    await app.stop()
    assert calls == ["start a", "start b", "stop b", "stop a"]


async def test_a_service_that_hangs_is_left_behind(an_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and the others stop within the time."""
    monkeypatch.setattr(supervised_app, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(supervised_app, "MOMENT_SECONDS", 0.1)
    calls: list[str] = []
    app = an_app(Part("a", calls), Hanging("b", calls), Refusing("c", calls))
    with pytest.raises(PartFailedError):
        await app.start()
    begun = time.monotonic()
    await app.stop()
    assert time.monotonic() - begun < 3
    assert calls[-3:] == ["stop c", "stop b", "stop a"] and app.left_behind == ["b"]
