"""Records golden files: one event of each type and version, one value of each class of `state` and version, and a whole
log of a simulated world.

They stand for what was once public: run this for a new version only. It never changes a file that exists; a
new whole log gets a new name:  .venv/bin/python tests/golden/record_golden.py --log log-v2.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import typing
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import msgspec

from jobledger.domain.events import AnyEvent
from jobledger.domain.values import Actor, ActorKind, Lineage, Opaque, RetryPolicy, Value
from jobledger.processors.core.plan import EventOut
from jobledger.processors.core.state_records import STATE_CLASSES, class_version, encode_state
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers, type_name
from jobledger.simulator import NewJob, World, WorldOptions
from jobledger.simulator.state_hash import fold_hash

HERE = Path(__file__).parent
AT_MS = 1_800_000_000_123
SOURCE = b"/cells/golden/tenants/default"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _sample(kind: Any, name: str) -> Any:
    """A value for a field: told by the field's name, so that each stands out in the file."""
    kinds = [one for one in get_args(kind) if one is not type(None)] if get_args(kind) else [kind]
    first = kinds[0]
    if name == "lost":
        return ["job:default:01890000-0000-7000-8000-000000000001/main"]
    if name == "handlers":
        return ["index", "report"]
    if first is Opaque:
        return Opaque(json.dumps({"of": name}))
    if first is RetryPolicy:
        return RetryPolicy(max_attempts=5, initial_seconds=0.5, factor=3.0, max_seconds=60.0, jitter_ratio=0.25)
    if first is str:
        return f"{name} of the golden event"
    if first is bool:
        return True
    if first is int:
        return AT_MS if name.endswith("_ms") else 3
    if first is float:
        return 12.5
    return next(iter(first))  # an enumeration


def golden_record(cls: type[Value], only: Collection[str] = ()) -> EventRecord:
    """An event of a type with every field set (or `only` these), in an envelope with every field set."""
    hints = typing.get_type_hints(cls)
    fields = {name: _sample(hints[name], name) for name in only or cls.__struct_fields__}
    return EventRecord(
        id="2-41",
        originator_id=f"{type_name(cls).split('.')[2].replace('task', 'job')}:default:golden",
        originator_version=7,
        seq=41,
        tenant="default",
        at_ms=AT_MS,
        command_id="01890000-0000-7000-8000-0000000000c1",
        actor=Actor(ActorKind.USER, "ada"),
        data=cls(**fields),
        causation_id="2-40",
        correlation_id="request-1",
        traceparent=TRACE,
        lineage=Lineage(
            parent="job:default:p",
            root="job:default:r",
            retry_of="job:default:o",
            schedule="schedule:default:s",
            fire_at_ms=AT_MS,
            workflow="workflow:default:w",
            workflow_version=2,
            tags={"team": "blue"},
        ),
        command_offset=12,
        command_index=3,
        source=1,
        source_number=99,
    )


def golden_state(kind: Any, name: str = "") -> Any:
    """A value of a class of `state`, or of a field's type, with everything set that can be."""
    origin, arguments = typing.get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return golden_state(arguments[0], name)
    if kind is Opaque:
        return _sample(kind, name)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{field: golden_state(hints[field], field) for field in kind.__struct_fields__})
    if origin is dict:
        return {golden_state(arguments[0], f"key of {name}"): golden_state(arguments[1], name)}
    if origin in (list, tuple):
        return origin([golden_state(arguments[0], name)])
    if arguments:  # a union
        return golden_state(next(one for one in arguments if one is not type(None)), name)
    if issubclass(kind, StrEnum):
        return list(kind)[-1]
    number = AT_MS if name.endswith("_ms") else 4
    return {str: f"{name} of the golden state", int: number, float: 12.5, bool: True}[kind]


def state_file(name: str, version: int) -> str:
    """Where the golden value of a class and version stands."""
    return f"{name}.v{version}.txt"


def record_state(directory: Path) -> list[str]:
    """Write the values of `state` that have no file yet, at the newest version; returns the names of the new files."""
    new = []
    for name, cls in STATE_CLASSES.items():
        path = directory / "state" / state_file(name, class_version(cls))
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_state(golden_state(cls)) + b"\n")
        new.append(path.name)
    return new


def _line(partition: int, out: EventOut) -> str:
    key, headers = out.key.decode(), _text_headers(out.headers)
    return json.dumps({"partition": partition, "key": key, "headers": headers, "value": out.value.decode()})


def _text_headers(headers: list[tuple[str, Any]]) -> dict[str, str]:
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in headers}


def record_events(directory: Path) -> list[str]:
    """Write the events that have no file yet; returns the names of the new files."""
    mapper, new = EventMapper(), []
    for cls in get_args(AnyEvent):
        path = directory / "events" / f"{type_name(cls)}.json"
        if path.exists():
            continue
        record = golden_record(cls)
        headers = _text_headers(cloudevents_headers(record, SOURCE))
        value = mapper.transcoder.encode(record).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"headers": headers, "value": value}, indent=2, ensure_ascii=False) + "\n")
        new.append(path.name)
    return new


def golden_world() -> World:
    """A world of four partitions in which jobs end in every way there is."""
    world = World(WorldOptions(partitions=4, cell="golden"))
    first, second = world.start_worker(credits=3), world.start_worker(credits=3)
    retry = RetryPolicy(max_attempts=2, initial_seconds=0.5)
    jobs = [
        world.submit(NewJob(queue=world.options.queues[n % 2], priority=1 + n % 5, retry=retry, tags={"n": str(n)}))
        for n in range(30)
    ]
    later = [world.submit(NewJob(delay_ms=60_000)) for _ in range(4)]
    world.submit(NewJob(key="a" * 64, request="b" * 64))
    world.submit(NewJob(key="a" * 64, request="b" * 64))
    world.set_queue_bound("other", 123_456)
    _settle(world)
    world.cancel(later[0], "not needed any more")
    world.cancel(jobs[-1])
    cancelled = killed = False
    for number in range(60):
        _settle(world)
        first.poll()
        second.poll()
        if number >= 3 and first.held and not cancelled:
            cancelled = True
            world.cancel(next(iter(first.held))[0])
            _settle(world)
            first.poll()
        if number >= 2 and second.held and not killed:
            killed = True
            second.start(next(iter(second.held)))
            _settle(world)
            second.die()
        for worker in (first, second):
            for place, key in enumerate(list(worker.held)):
                _one_step(worker, key, number + place)
        world.clock.advance(400)
        first.beat()
        second.beat()
    world.heal()
    world.drain()
    world.check_end()
    return world


def _one_step(worker: Any, key: Any, number: int) -> None:
    match number % 7:
        case 0:
            worker.start(key)
        case 1:
            worker.fail(key)
        case 2:
            worker.start(key)
            worker.save(key)
        case 3:
            worker.fail(key, retryable=False, timeout=True)
        case 4:
            worker.give_back(key)
        case _:
            worker.succeed(key)


def _settle(world: World) -> None:
    for _ in range(4):
        for partition in range(world.options.partitions):
            world.turn(partition)


def record_log(path: Path) -> None:
    """Write a whole log; its first line names the partitions and the hash of the state that it folds to."""
    if path.exists():
        raise SystemExit(f"{path.name} exists and is never changed; record a new version under another name.")
    world = golden_world()
    lines = [_line(number, out) for number, part in enumerate(world.log.partitions) for out in part.events]
    head = {"partitions": 4, "events": len(lines), "state_sha256": fold_hash(world.history.partitions)}
    path.write_text("\n".join([json.dumps(head), *lines]) + "\n")


def main() -> int:
    """Record what has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", help="also record a whole log under this new name")
    options = parser.parse_args()
    for name in [*record_events(HERE), *record_state(HERE)]:
        sys.stdout.write(f"{name}\n")
    if options.log:
        record_log(HERE / options.log)
    return 0


if __name__ == "__main__":
    sys.exit(main())
