"""How records of `commands` look to Faust."""

from __future__ import annotations

from typing import Any, NewType

import faust
from faust.types import Message

from jobledger.schemas.commands import CommandRecord, encode_record

EncodedCommands = NewType("EncodedCommands", bytes)
"""The value of a record of `commands` as it stands in the log; `take_record` reads it."""


class CommandSchema(faust.Schema[bytes | None, EncodedCommands]):
    """Partition by stream, values of `CommandRecord`.

    A record is written from its type and arrives encoded: its owner decodes it, once, in its turn, if at all (what its
    inbox has no room for it reads from the log later), and puts aside what it cannot read.
    """

    def loads_key(self, app: Any, message: Message, **_: Any) -> bytes | None:
        """Keys say nothing: one record holds commands for several streams of its partition."""
        return message.key

    def loads_value(self, app: Any, message: Message, **_: Any) -> EncodedCommands:
        """The record, which may be anything; one without a value is as unreadable as an empty one."""
        return EncodedCommands(message.value or b"")

    def dumps_value(self, app: Any, value: Any, *, headers: Any, serializer: Any = None) -> tuple[bytes, Any]:
        """The bytes of a CommandRecord."""
        assert isinstance(value, CommandRecord)
        return encode_record(value), headers
