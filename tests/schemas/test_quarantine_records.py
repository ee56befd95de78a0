"""Records of the quarantine: whole, in pieces, of this release and of the one before."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.domain.values import SYSTEM
from jobledger.eventlog.quarantine import MAX_BYTES, QuarantineBook
from jobledger.schemas.limits import MAX_RECORD_BYTES
from jobledger.schemas.quarantine import (
    CHUNK_BYTES,
    Quarantined,
    Resolution,
    Resolved,
    decode_quarantine,
    encode_quarantined,
    encode_resolved,
    pieces,
)


@given(st.binary(max_size=64), st.integers(0, 3 * CHUNK_BYTES))
def test_pieces_give_back_every_byte(end: bytes, size: int) -> None:
    """Each fits into a record beside others, and says which of how many it is."""
    data = b"\xff" * size + end
    whole = Quarantined(id="0-1-1", partition=0, reason="why", offset=7, index=1, data=data)
    parts = list(pieces(whole))
    assert b"".join(part.data for part in parts) == data
    assert [(part.chunk, part.chunks, part.id) for part in parts] == [
        (n, len(parts), "0-1-1") for n in range(len(parts))
    ]
    assert max(len(encode_quarantined(part)) for part in parts) < MAX_RECORD_BYTES


def test_a_record_of_before_is_read() -> None:
    """It has the text alone."""
    (item,) = decode_quarantine(b'[{"partition":2,"reason":"no JSON","raw":"oops"}]')
    assert isinstance(item, Quarantined)
    assert (item.partition, item.reason, item.text, item.id) == (2, "no JSON", "oops", "")


def test_a_resolution_is_told_from_a_thing_set_aside() -> None:
    """Both stand on the same topic."""
    done = Resolved(id="0-1-1", resolution=Resolution.DISCARDED, actor=SYSTEM, at_ms=5, note="spam")
    assert decode_quarantine(encode_resolved(done)) == [done]
    kept = Quarantined(id="0-1-1", partition=0, reason="why", data=b"\x00\xff")
    assert decode_quarantine(b"[" + encode_quarantined(kept) + b"]") == [kept]


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'[{"resolution":"ELSE"}]', b"\xff"])
def test_what_is_none_of_ours_is_refused(value: bytes) -> None:
    """As a decoding error, which readers expect."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_quarantine(value)


def test_what_is_remembered_of_a_large_quarantine_is_bounded() -> None:
    """The newest is kept, whether as bytes or as the text of a record of before."""
    book = QuarantineBook({}, "quarantine")
    for number in range(4 * MAX_BYTES // MAX_RECORD_BYTES):
        book._add(Quarantined(partition=0, reason="why", raw="x" * MAX_RECORD_BYTES), f"q{number}-0")
    held = sum(entry.held_bytes for entry in book.entries.values())
    assert MAX_BYTES - MAX_RECORD_BYTES <= held <= MAX_BYTES
    assert next(reversed(book.entries)) == f"q{number}-0"
