"""Records on `<cell>.quarantine`: what could not be read or decided, whole, and what operators did about it.

A record is a JSON array. An owner's record holds things set aside; one of the api holds resolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from jobledger.domain.values import Actor, Value
from jobledger.schemas.decoding import decoder

#: Bytes of one piece of what was set aside; more goes on in the next.
CHUNK_BYTES = 128 * 1024
MAX_REASON_LENGTH = 1_000
MAX_NOTE_LENGTH = 1_000


class Quarantined(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One thing set aside, or a piece of it: `chunk` of `chunks`, counted from 0.

    `topic` is the topic's role, `offset` and `index` say where in its partition it stood; without them it was
    something that the owner did by itself. `data` are its bytes, in JSON as base64. `command_id` and `stream` are set
    where they can be told. The `id` stays the same when the record is sent again. Records of before have `raw`, the
    text cut at 256 KiB, and no `id`: theirs is made of where they stand.
    """

    partition: int
    reason: str
    id: str = ""
    topic: str = "commands"
    offset: int | None = None
    index: int | None = None
    at_ms: int = 0
    command_id: str | None = None
    stream: str | None = None
    chunk: int = 0
    chunks: int = 1
    data: bytes = b""
    raw: str = ""

    @property
    def text(self) -> str:
        """What was set aside, as far as it is text."""
        return self.data.decode(errors="replace") if self.data else self.raw


class Resolution(StrEnum):
    """What became of a thing set aside."""

    RETRIED = "RETRIED"
    DISCARDED = "DISCARDED"


class Resolved(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody has sent a thing set aside again, or given it up. The first resolution of an id counts."""

    id: str
    resolution: Resolution
    actor: Actor
    at_ms: int
    note: str = ""


class _Kind(msgspec.Struct):
    resolution: str | None = None


_encoder = msgspec.json.Encoder()
_decode_items = decoder(list[msgspec.Raw])
_decode_kind = decoder(_Kind)
_decode_quarantined = decoder(Quarantined)
_decode_resolved = decoder(Resolved)


def pieces(whole: Quarantined) -> Iterator[Quarantined]:
    """A thing set aside in pieces that each fit into a record beside others."""
    data = whole.data
    count = max(1, -(-len(data) // CHUNK_BYTES))
    for chunk in range(count):
        part = data[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
        yield msgspec.structs.replace(whole, chunk=chunk, chunks=count, data=part)


def encode_quarantined(quarantined: Quarantined) -> bytes:
    """The JSON bytes of one thing set aside."""
    return _encoder.encode(quarantined)


def encode_resolved(resolved: Resolved) -> bytes:
    """A record with one resolution."""
    return b"[" + _encoder.encode(resolved) + b"]"


def decode_quarantine(value: bytes) -> list[Quarantined | Resolved]:
    """What a record of the topic holds; raises msgspec.DecodeError or UnicodeDecodeError."""
    return [
        _decode_quarantined(item) if _decode_kind(item).resolution is None else _decode_resolved(item)
        for item in map(bytes, _decode_items(value))
    ]
