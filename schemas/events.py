"""The record of an event on `<cell>.events`: typed envelope, codec, CloudEvents binary headers.

The codec is eventsourcing's `Mapper`: a stored event is (stream id, version, topic, state), its topic the
public type name, never a Python path; older schema versions are raised by `upcast_vN_vN+1` of the class
registered for the topic.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast, get_args

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from eventsourcing.utils import register_topic, resolve_topic

from jobledger.domain.aggregates import kind_of
from jobledger.domain.events import AnyEvent
from jobledger.domain.values import Actor, Lineage, Value
from jobledger.schemas.decoding import decode_any, decoder

TYPE_PREFIX = "io.jobledger."
#: Last digits of the flags of a traceparent that is sampled.
_ODD = frozenset("13579bdf")
EVENT_CLASSES: tuple[type[Value], ...] = get_args(AnyEvent)


class EventRecord(Value, frozen=True, kw_only=True):
    """One event with what every event carries. Value of the Kafka record, as JSON.

    `originator_id` (stream) and `originator_version` (1, 2, 3 … per stream) are eventsourcing's names, kept
    as `stream` and `version` on the wire; `seq` counts per partition. Times are ms since the epoch.
    """

    id: str
    originator_id: str = msgspec.field(name="stream")
    originator_version: int = msgspec.field(name="version")
    seq: int
    tenant: str
    at_ms: int
    command_id: str
    actor: Actor
    data: AnyEvent
    causation_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    lineage: Lineage = Lineage()
    #: Where the command stood: offset and index in its record; None for follow-ups and timers.
    command_offset: int | None = None
    command_index: int | None = None
    #: The outbox entry that brought the command: source partition and its number for this destination.
    source: int | None = None
    source_number: int | None = None
    #: The job's status after the event; None for streams that have none, and in events from before it was written.
    status_after: str | None = None

    @property
    def status(self) -> str | None:
        """`status_after`, or what an event from before it was written tells by itself; None: the status stays."""
        return self.status_after or kind_of(self.originator_id).status_after(None, self.data)

    @property
    def sampled(self) -> bool:
        """Whether somebody records the trace that it names."""
        return self.traceparent is not None and self.traceparent[54:55] in _ODD


def type_name(event: AnyEvent | type[Value]) -> str:
    """Public name of an event's type, such as io.jobledger.job.submitted.v1."""
    cls = event if isinstance(event, type) else type(event)
    return _NAMES[cls]


_NAMES: dict[type[Value], str] = {cls: TYPE_PREFIX + cast(str, cls.__struct_config__.tag) for cls in EVENT_CLASSES}
for _cls, _name in _NAMES.items():
    register_topic(_name, _cls)


class EventHead(msgspec.Struct, frozen=True):
    """As much of a record as tells an event from something that isn't one."""

    seq: int
    stream: str
    version: int


decode_head = decoder(EventHead)


def sequence_in(headers: Any) -> int | None:
    """`seq` as the CloudEvents headers of a message tell it; None: it is no event that an owner has written."""
    for name, value in headers or ():
        if name == "ce_sequence" and isinstance(value, bytes) and value.isdigit() and len(value) < 19:
            return int(value)
    return None


def tracestate_in(headers: Any) -> str:
    """The W3C tracestate in the headers of an event; '' without one."""
    for name, value in headers or ():
        if name == "ce_tracestate" and isinstance(value, bytes):
            return value.decode(errors="replace")
    return ""


class UnknownEventTypeError(ValueError):
    """A type of event that this release does not know. A reader of ours stops; it never skips."""


class MsgspecTranscoder(Transcoder):
    """JSON by msgspec: typed, and checked against the type when read."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._decode = decoder(EventRecord)

    def encode(self, obj: Any) -> bytes:
        """The JSON bytes of an event record."""
        return self._encoder.encode(obj)

    def decode(self, data: bytes) -> EventRecord:
        """The event record in `data`; raises msgspec.ValidationError for anything else."""
        return self._decode(data)


class EventMapper(Mapper[str]):
    """Converts between event records and stored events, the form in which they stand in Kafka."""

    def __init__(self) -> None:
        super().__init__(MsgspecTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The stored event of an EventRecord."""
        record = cast(EventRecord, domain_event)
        return StoredEvent(
            originator_id=record.originator_id,
            originator_version=record.originator_version,
            topic=_NAMES[type(record.data)],
            state=self.transcoder.encode(record),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """The EventRecord of a stored event, raised to the newest version of its type."""
        return cast(DomainEventProtocol[str], self.read(stored_event.topic, stored_event.state))

    def read(self, topic: str, state: bytes) -> EventRecord:
        """The event record in `state`; raises UnknownEventTypeError, or msgspec.ValidationError when broken."""
        cls = _CLASSES.get(topic)
        if cls is None:
            return self._upcast(topic, state)
        record = cast(EventRecord, self.transcoder.decode(state))
        if type(record.data) is not cls:
            raise msgspec.ValidationError(f"The header says '{topic}', but the event is '{type_name(record.data)}'.")
        return record

    def _upcast(self, topic: str, state: bytes) -> EventRecord:
        """An older version of a known type: raise its data step by step, then read it as the newest."""
        base, _, version = topic.rpartition(".v")
        newest = _NEWEST.get(base)
        if newest is None or not version.isdigit():
            raise UnknownEventTypeError(f"Event type '{topic}' is not known to this release; upgrade the reader.")
        cls = resolve_topic(newest)
        steps = [f"upcast_v{step}_v{step + 1}" for step in range(int(version), _version(newest))]
        if not steps or not all(hasattr(cls, step) for step in steps):
            raise UnknownEventTypeError(
                f"Event type '{topic}' is not known to this release, which knows '{newest}'; upgrade the reader."
            )
        raw = decode_any(state)
        for step in steps:
            getattr(cls, step)(raw["data"])
        raw["data"]["type"] = newest.removeprefix(TYPE_PREFIX)
        return msgspec.convert(raw, EventRecord)


def _version(name: str) -> int:
    """The schema version at the end of a type's name."""
    return int(name.rpartition(".v")[2])


_CLASSES = {name: cls for cls, name in _NAMES.items()}
_NEWEST = {name.rpartition(".v")[0]: name for name in sorted(_CLASSES, key=_version)}


@lru_cache(maxsize=1024)
def rfc3339(ms: int) -> str:
    """A time in ms since the epoch as RFC 3339 text with milliseconds and Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1024)
def _ce_time(ms: int) -> tuple[str, bytes]:
    return "ce_time", rfc3339(ms).encode()


_CE_TYPE: dict[type[Any], tuple[str, bytes]] = {cls: ("ce_type", name.encode()) for cls, name in _NAMES.items()}
_CONTENT_TYPE = ("content-type", b"application/json")
_SPEC_VERSION = ("ce_specversion", b"1.0")


def cloudevents_headers(
    record: EventRecord, source: bytes, tracestate: str | None = None
) -> list[tuple[str, str | bytes | None]]:
    """Headers of CloudEvents 1.0, Kafka binding, binary mode.

    Written out rather than through the SDK, which costs more than the decision itself; a test reads them
    back with the SDK. `source` is `/cells/<cell>/tenants/<tenant>` in UTF-8. Trace context stands in the attributes of
    the extension "Distributed Tracing".
    """
    headers: list[tuple[str, str | bytes | None]] = [
        _CONTENT_TYPE,
        _SPEC_VERSION,
        ("ce_id", record.id.encode()),
        ("ce_source", source),
        _CE_TYPE[type(record.data)],
        _ce_time(record.at_ms),
        ("ce_subject", record.originator_id.encode()),
        ("ce_sequence", b"%d" % record.seq),
    ]
    if record.traceparent:
        headers.append(("ce_traceparent", record.traceparent.encode()))
    if tracestate:
        headers.append(("ce_tracestate", tracestate.encode()))
    return headers
