"""The record on `<cell>.commands`: 1 to 500 commands to the streams of one partition."""

from __future__ import annotations

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import Actor, Value
from jobledger.schemas.decoding import decoder


class Command(Value, frozen=True, kw_only=True):
    """One command with what every command carries. The same `id` again is the same command.

    `reply` asks for a record on `outcomes`. `causation_id` is the event that this follows from.
    """

    id: str
    stream: str
    actor: Actor
    body: AnyCommand
    reply: bool = False
    causation_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


class CommandRecord(Value, frozen=True, kw_only=True):
    """Value of a record on `commands`. From an outbox it names its source partition and its number there."""

    commands: list[Command]
    source: int | None = None
    number: int | None = None


class RawCommandRecord(Value, frozen=True, kw_only=True):
    """The same record read without looking into the commands, to tell the broken one from the good ones."""

    commands: list[msgspec.Raw]
    source: int | None = None
    number: int | None = None


_encoder = msgspec.json.Encoder()
_decode = decoder(CommandRecord)
_decode_raw = decoder(RawCommandRecord)
_decode_command = decoder(Command)


class BrokenCommand(Value, frozen=True, kw_only=True):
    """A command that could not be read: its bytes and why."""

    raw: bytes
    reason: str


class ReadRecord(Value, frozen=True, kw_only=True):
    """A command record as read: each place holds a command or what is wrong with it."""

    commands: list[Command | BrokenCommand]
    source: int | None = None
    number: int | None = None


def encode_record(record: CommandRecord) -> bytes:
    """The JSON bytes of a command record."""
    return _encoder.encode(record)


def encode_command(command: Command) -> bytes:
    """The JSON bytes of one command."""
    return _encoder.encode(command)


def join_record(commands: list[bytes], source: int | None = None, number: int | None = None) -> bytes:
    """A command record from commands that are encoded already."""
    head = b'{"commands":[' + b",".join(commands) + b"]"
    if source is not None:
        head += b',"source":%d,"number":%d' % (source, number or 0)
    return head + b"}"


def read_record(value: bytes) -> ReadRecord:
    """Read a record; a broken command in it becomes a BrokenCommand.

    Raises msgspec.DecodeError or ValidationError when the record itself can't be read.
    """
    try:
        whole = _decode(value)
        return ReadRecord(commands=list(whole.commands), source=whole.source, number=whole.number)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raw = _decode_raw(value)
    commands: list[Command | BrokenCommand] = []
    for one in raw.commands:
        try:
            commands.append(_decode_command(one))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            commands.append(BrokenCommand(raw=bytes(one), reason=str(error)))
    return ReadRecord(commands=commands, source=raw.source, number=raw.number)
