"""The record on `<cell>.commands`: 1 to 500 commands to the streams of one partition."""

from __future__ import annotations

import re
import zlib
from importlib.metadata import version

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import Actor, Passed, Value
from jobledger.schemas.decoding import decoder
from jobledger.schemas.limits import MAX_COMMAND_BYTES, MAX_COMMANDS_PER_RECORD, MAX_ID_BYTES, MAX_STREAM_BYTES


class Command(Value, frozen=True, kw_only=True):
    """One command with what every command carries. The same `id` again is the same command.

    `reply` asks for a record on `outcomes`. `causation_id` is the event that this follows from. `tracestate` belongs to
    `traceparent`, as in W3C's trace context: it says why a trace is recorded, where somebody has decided that.
    """

    id: str
    stream: str
    actor: Actor
    body: AnyCommand
    reply: bool = False
    causation_id: Passed | None = None
    correlation_id: Passed | None = None
    traceparent: Passed | None = None
    tracestate: Passed | None = None


class CommandRecord(Value, frozen=True, kw_only=True):
    """Value of a record on `commands`. From an outbox it names its source partition and its number there.

    `writer` is the version of Jobledger that wrote it.
    """

    commands: list[Command]
    source: int | None = None
    number: int | None = None
    writer: str | None = None


class RawCommandRecord(Value, frozen=True, kw_only=True):
    """The same record read without looking into the commands, to tell the broken one from the good ones."""

    commands: list[msgspec.Raw]
    source: int | None = None
    number: int | None = None
    writer: str | None = None


#: Stands for an offset that holds no record although nothing was lost: the mark of a transaction that somebody
#: else has written to `commands`. What is gone from the log, or not there yet, is not filled in like this.
NO_COMMANDS = b'{"commands":[]}'
#: The version of Jobledger that writes records here.
WRITER = version("jobledger")
_RELEASE = re.compile(r"\d{1,9}\.\d{1,9}(\.\d{1,9})?([a-z0-9.+-]{0,40})")
#: Python's crc32 lets other threads go first when it is given more than 5 KiB.
_CHECKED_BYTES = 4096
#: What msgspec says of a value of an enum, or of a type, that it does not know.
_UNKNOWN = re.compile(r"^Invalid (enum )?value ")

_encoder = msgspec.json.Encoder()
_decode = decoder(CommandRecord)
_decode_raw = decoder(RawCommandRecord)
_decode_command = decoder(Command)


class BrokenCommand(Value, frozen=True, kw_only=True):
    """A command that could not be read: its bytes and why."""

    raw: bytes
    reason: str


class ForeignCommand(Value, frozen=True, kw_only=True):
    """A command of another release with a type or a value that this one does not know: who wrote it, and who reads."""

    writer: str
    reader: str
    reason: str


class ReadRecord(Value, frozen=True, kw_only=True):
    """A command record as read: each place holds a command or what is wrong with it.

    `checksum` is that of its bytes.
    """

    commands: list[Command | BrokenCommand | ForeignCommand]
    source: int | None = None
    number: int | None = None
    checksum: int | None = None


def encode_record(record: CommandRecord) -> bytes:
    """The JSON bytes of a command record."""
    return _encoder.encode(record)


def encode_command(command: Command) -> bytes:
    """The JSON bytes of one command."""
    return _encoder.encode(command)


def join_record(commands: list[bytes], source: int | None = None, number: int | None = None) -> bytes:
    """A command record from commands that are encoded already."""
    head = b'{"writer":"%s","commands":[' % WRITER.encode() + b",".join(commands) + b"]"
    if source is not None:
        head += b',"source":%d,"number":%d' % (source, number or 0)
    return head + b"}"


def checksum(value: bytes) -> int:
    """By which a record is known again: its beginning, where the ids of the first commands stand, and its length."""
    return zlib.crc32(value[:_CHECKED_BYTES], len(value))


def read_record(value: bytes) -> ReadRecord:
    """Read a record; a broken command in it becomes a BrokenCommand, one of another release a ForeignCommand.

    Raises msgspec.DecodeError or UnicodeDecodeError when the record itself can't be read.
    """
    try:
        whole = _decode(value)
        if len(value) <= MAX_COMMAND_BYTES and all(fits(one.id, one.stream) for one in whole.commands):
            return ReadRecord(
                commands=list(whole.commands), source=whole.source, number=whole.number, checksum=checksum(value)
            )
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # which of the commands it is shows below
    raw = _decode_raw(value)
    if len(raw.commands) > MAX_COMMANDS_PER_RECORD:
        found = len(raw.commands)
        raise msgspec.ValidationError(f"Expected at most {MAX_COMMANDS_PER_RECORD} commands, but there are {found}")
    commands = [_read_command(bytes(one), raw.writer) for one in raw.commands]
    return ReadRecord(commands=commands, source=raw.source, number=raw.number, checksum=checksum(value))


def take_record(value: bytes) -> ReadRecord:
    """`read_record` of whatever bytes: what cannot be read at all is one broken command."""
    try:
        return read_record(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        broken = BrokenCommand(raw=value, reason=f"The record cannot be read: {error}")
        return ReadRecord(commands=[broken], checksum=checksum(value))


def _read_command(data: bytes, writer: str | None) -> Command | BrokenCommand | ForeignCommand:
    if len(data) > MAX_COMMAND_BYTES:
        reason = f"Expected a command of at most {MAX_COMMAND_BYTES} bytes, but it has {len(data)}."
        return BrokenCommand(raw=data, reason=reason)
    try:
        command = _decode_command(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if writer is not None and _is_foreign(writer) and _UNKNOWN.search(str(error)):
            return ForeignCommand(writer=writer, reader=WRITER, reason=str(error)[:300])
        return BrokenCommand(raw=data, reason=str(error))
    if fits(command.id, command.stream):
        return command
    reason = f"Expected an id of at most {MAX_ID_BYTES} bytes and a stream of at most {MAX_STREAM_BYTES}."
    return BrokenCommand(raw=data, reason=reason)


def fits(identity: str, stream: str) -> bool:
    """Whether an id and the name of a stream keep to their bounds, so that what names them fits into a record."""
    return (
        len(identity) <= MAX_ID_BYTES
        and len(stream) <= MAX_STREAM_BYTES
        and (identity.isascii() or len(identity.encode(errors="replace")) <= MAX_ID_BYTES)
        and (stream.isascii() or len(stream.encode(errors="replace")) <= MAX_STREAM_BYTES)
    )


def _is_foreign(writer: str) -> bool:
    """Whether another release of Jobledger wrote it; what names no version is no release's."""
    return writer != WRITER and _RELEASE.fullmatch(writer) is not None
