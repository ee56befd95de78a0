"""Reading the value of a record on `events`, as the read models see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from jobledger.schemas.decoding import decode_any, decoder
from jobledger.schemas.events import EventMapper, EventRecord

_decode = decoder(EventRecord)
_NUL = b"\\u0000"
NUL_SIGN = "␀"

#: Gives the headers of a record; asked for only when its value alone doesn't do.
Headers = Callable[[], Any]


class EventReader:
    """Reads the value of a record on `events`."""

    def __init__(self) -> None:
        self._mapper = EventMapper()

    def read(self, value: bytes, headers: Headers) -> EventRecord:
        """The event, raised to the newest version of its type.

        A character that Postgres can't hold (NUL) is replaced by its sign. Raises UnknownEventTypeError or
        msgspec.DecodeError.
        """
        if _NUL in value:
            value = msgspec.json.encode(_without_nul(decode_any(value)))
        try:
            return _decode(value)
        except msgspec.ValidationError:
            kind = next((data.decode() for name, data in headers() or () if name == "ce_type"), "")
            if not kind:
                raise
            return self._mapper.read(kind, value)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", NUL_SIGN)
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
