"""The settings of a queue, and a change of them."""

from __future__ import annotations

import msgspec

from jobledger.domain.values import Value

DEFAULT_QUEUE = "default"
DEFAULT_MAX_WAITING_BYTES = 1 << 30


class QueueSettings(Value, frozen=True, kw_only=True):
    """What people decide of a queue; the commands, events and the state of a queue have these fields.

    What they mean stands with the command `CreateQueue`. A setting that is added needs a default: records that were
    written before it don't have it.
    """

    max_waiting_bytes: int
    description: str = ""


class QueueChanges(Value, frozen=True, kw_only=True):
    """The settings of a queue that are to be changed; None leaves one as it is."""

    max_waiting_bytes: int | None = None
    description: str | None = None


#: Of a queue that nobody has created.
DEFAULT_SETTINGS = QueueSettings(max_waiting_bytes=DEFAULT_MAX_WAITING_BYTES)


def settings_of(value: QueueSettings) -> QueueSettings:
    """The settings alone of what has them."""
    return QueueSettings(**{name: getattr(value, name) for name in QueueSettings.__struct_fields__})


def changed(settings: QueueSettings, changes: QueueChanges) -> QueueSettings:
    """The settings after a change."""
    values = {name: getattr(changes, name) for name in QueueChanges.__struct_fields__}
    given = {name: value for name, value in values.items() if value is not None}
    return msgspec.structs.replace(settings, **given)
