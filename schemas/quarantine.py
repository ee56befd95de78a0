"""The record on `<cell>.quarantine`: a JSON array of what could not be read or decided, with the reason."""

from __future__ import annotations

import msgspec

from jobledger.domain.values import Value
from jobledger.schemas.decoding import decoder


class Quarantined(Value, frozen=True, kw_only=True):
    """One thing set aside. `raw` is its text, cut at 256 KiB; `partition` is that of `commands`."""

    partition: int
    reason: str
    raw: str


_encoder = msgspec.json.Encoder()
_decode = decoder(list[Quarantined])


def encode_quarantined(quarantined: Quarantined) -> bytes:
    """The JSON bytes of one thing set aside."""
    return _encoder.encode(quarantined)


def decode_quarantine(value: bytes) -> list[Quarantined]:
    """What a record of the topic holds; raises msgspec.ValidationError."""
    return _decode(value)
