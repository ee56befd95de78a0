from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator

from jobledger.domain.commands import AnyCommand
from jobledger.domain.worker_messages import AnyWorkerMessage
from jobledger.schemas import export
from jobledger.schemas.events import EVENT_CLASSES, type_name
from jobledger.schemas.outcomes import encode_outcome
from jobledger.simulator import World
from jobledger.simulator.chaos import run_seed

ROOT = export.DEFAULT_DIRECTORY
PER_TYPE = 5


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [run_seed(number) for number in range(12)]


def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((ROOT / name).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_committed_schemas_are_those_of_the_code() -> None:
    """A change of a record shows as a change of a committed file, or this fails."""
    assert export.check() == []


def test_differences_are_told_by_file(tmp_path: Path) -> None:
    """A missing, a changed and an unknown file each give one sentence; an older version of a type gives none."""
    export.export(tmp_path)
    assert export.check(tmp_path) == []
    (tmp_path / "topics.json").unlink()
    changed = tmp_path / "events" / "io.jobledger.job.submitted.v1.json"
    changed.write_text(changed.read_text() + " ")
    (tmp_path / "events" / "io.jobledger.job.vanished.v1.json").write_text("{}")
    (tmp_path / "events" / "io.jobledger.job.submitted.v0.json").write_text("{}")
    told = sorted(line.split(" ")[0] for line in export.check(tmp_path))
    assert told == [
        "events/io.jobledger.job.submitted.v1.json",
        "events/io.jobledger.job.vanished.v1.json",
        "topics.json",
    ]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.json")), ids=lambda path: path.stem)
def test_each_schema_is_valid_open_and_names_no_server(path: Path) -> None:
    """JSON Schema 2020-12 with an open content model: no file closes its properties, none points to a server."""
    if path.name == "topics.json":
        return
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert '"additionalProperties":false' not in json.dumps(schema, separators=(",", ":"))
    assert "http" not in json.dumps({key: value for key, value in schema.items() if key != "$schema"})


def test_every_event_command_and_worker_message_has_a_file() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.json")}
    assert {f"events/{type_name(cls)}.json" for cls in EVENT_CLASSES} <= names
    for folder, kinds in (("commands", get_args(AnyCommand)), ("worker", get_args(AnyWorkerMessage))):
        assert {f"{folder}/io.jobledger.{kind.__struct_config__.tag}.json" for kind in kinds} <= names


def test_recorded_events_validate_and_others_do_not(worlds: list[World]) -> None:
    """Every event that the simulated world commits fits the schema of its type, and of no other type."""
    seen: Counter[str] = Counter()
    validators: dict[str, Draft202012Validator] = {}
    for record in (record for world in worlds for record in world.records):
        name = type_name(record.data)
        seen[name] += 1
        if seen[name] <= PER_TYPE:
            if name not in validators:
                validators[name] = _validator(f"events/{name}.json")
            validators[name].validate(json.loads(msgspec.json.encode(record)))
    assert len(seen) >= 20, seen
    first = json.loads(msgspec.json.encode(worlds[0].records[0]))
    others = [validator for name, validator in validators.items() if name != type_name(worlds[0].records[0].data)]
    assert not any(validator.is_valid(first) for validator in others)
    assert validators[type_name(worlds[0].records[0].data)].is_valid({**first, "added_later": 1})


def test_recorded_commands_tasks_and_outcomes_validate(worlds: list[World]) -> None:
    """What the simulated world puts on the other topics fits their schemas."""
    commands, tasks, outcomes = map(
        _validator, ("records/commands.json", "records/tasks.json", "records/outcomes.json")
    )
    bodies: dict[str, Any] = {}
    for world in worlds:
        for partition in world.log.partitions:
            ours = [value for n, value in enumerate(partition.commands) if value and n not in partition.foreign]
            for value in ours:
                for command in json.loads(value)["commands"]:
                    bodies[command["body"]["type"]] = command["body"]
            for value in ours[:1]:
                commands.validate(json.loads(value))
            for outcome in partition.outcomes[:2]:
                outcomes.validate(json.loads(encode_outcome(outcome)))
        for value in [value for inbox in world.log.tasks for value in inbox][:2]:
            tasks.validate(json.loads(value))
    assert len(bodies) >= 12, set(bodies)
    for name, body in bodies.items():
        _validator(f"commands/io.jobledger.{name}.json").validate(body)
