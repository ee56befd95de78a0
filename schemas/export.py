"""The public contract as JSON Schema files: one per event type and version, and one per kind of other record.

The files are committed below `schemas/json`; continuous integration exports them anew and compares. Content is
open: a reader must let through properties that it does not know, for later releases add some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import Value
from jobledger.domain.worker_messages import AnyWorkerMessage, Heartbeat
from jobledger.schemas.commands import CommandRecord
from jobledger.schemas.events import EVENT_CLASSES, TYPE_PREFIX, EventRecord, type_name
from jobledger.schemas.outcomes import Outcome
from jobledger.schemas.quarantine import Quarantined, Resolved
from jobledger.schemas.topics import TOPICS
from jobledger.schemas.worker import TaskRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFAULT_DIRECTORY = Path(__file__).parent / "json"
_REF = "#/$defs/{name}"
_RECORDS: dict[str, Any] = {
    "records/commands": CommandRecord,
    "records/outcomes": Outcome,
    "records/tasks": TaskRecord,
    "records/heartbeats": Heartbeat,
    "records/quarantine": list[Quarantined],
    "records/quarantine_resolution": list[Resolved],
}


def _tag(cls: type[Value]) -> str:
    return str(cls.__struct_config__.tag)


def _references(node: Any) -> set[str]:
    """Names of the definitions that a schema refers to, directly."""
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values()))
    if isinstance(node, list):
        return set().union(*map(_references, node))
    return set()


def _reachable(root: Any, components: dict[str, Any]) -> dict[str, Any]:
    """The definitions that a schema needs, in the order of their names."""
    found: set[str] = set()
    wanted = _references(root)
    while wanted:
        found |= wanted
        wanted = {name for one in wanted for name in _references(components[one])} - found
    return {name: components[name] for name in sorted(found)}


def _plain(node: Any) -> Any:
    """Without OpenAPI's `discriminator`, and with descriptions on one line each."""
    if isinstance(node, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _plain(value)
            for key, value in node.items()
            if key != "discriminator"
        }
    return [_plain(one) for one in node] if isinstance(node, list) else node


def _document(identity: str, root: Any, components: dict[str, Any]) -> dict[str, Any]:
    head = {"$schema": DIALECT, "$id": f"urn:jobledger:schema:{identity}"}
    return {**head, **_plain(root), "$defs": _plain(_reachable(root, components))}


def _schema_of(kind: Any, identity: str) -> dict[str, Any]:
    (root,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    return _document(identity, root, components)


def event_schema(cls: type[Value]) -> dict[str, Any]:
    """The schema of a record on `events` whose `data` is of one type: the whole value, envelope included."""
    (_, data), components = msgspec.json.schema_components([EventRecord, cls], ref_template=_REF)
    envelope = dict(components.pop(EventRecord.__name__))
    envelope["title"] = type_name(cls)
    envelope["properties"] = {**envelope["properties"], "data": data}
    return _document(type_name(cls), envelope, components)


def _topics() -> dict[str, Any]:
    return {
        spec.topic.value: {
            "name": f"<cell>.{spec.topic.value}",
            "partitions": "as many as the cell has" if spec.partitions is None else spec.partitions,
            "config": spec.config,
            "meaning": spec.meaning,
        }
        for spec in TOPICS.values()
    }


def documents() -> dict[str, Any]:
    """Every exported file: its path below the directory, and what it holds."""
    files: dict[str, Any] = {"topics.json": _topics()}
    for cls in EVENT_CLASSES:
        files[f"events/{type_name(cls)}.json"] = event_schema(cls)
    for folder, kinds in (("commands", get_args(AnyCommand)), ("worker", get_args(AnyWorkerMessage))):
        for kind in kinds:
            name = f"{TYPE_PREFIX}{_tag(kind)}"
            files[f"{folder}/{name}.json"] = _schema_of(kind, name)
    for path, record in _RECORDS.items():
        files[f"{path}.json"] = _schema_of(record, path.replace("/", ":"))
    return files


def _text(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def export(directory: Path = DEFAULT_DIRECTORY) -> None:
    """Write every file. Files of older versions of events stay: what was once public is never taken away."""
    for name, document in documents().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(document), encoding="utf-8")


def check(directory: Path = DEFAULT_DIRECTORY) -> list[str]:
    """How the committed files differ from the code, one sentence each; empty when they are the same."""
    differences = []
    expected = documents()
    for name, document in expected.items():
        path = directory / name
        if not path.exists():
            differences.append(f"{name} is missing; run `jobledger schema export`.")
        elif path.read_text(encoding="utf-8") != _text(document):
            differences.append(f"{name} differs from the code; run `jobledger schema export` and look at the change.")
    for path in sorted(directory.rglob("*.json")):
        name = path.relative_to(directory).as_posix()
        if name not in expected and not _older_version(name, expected):
            differences.append(f"{name} is of no type in the code; delete it if it was never released.")
    return differences


def _older_version(name: str, expected: dict[str, Any]) -> bool:
    """Whether a file is that of an earlier version of a type that still exists."""
    base, _, version = name.removesuffix(".json").rpartition(".v")
    newer = [one.removesuffix(".json").rpartition(".v") for one in expected if one.startswith(f"{base}.v")]
    return version.isdigit() and any(base == other and int(version) < int(number) for other, _, number in newer)
