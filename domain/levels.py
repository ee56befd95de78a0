"""Format levels: which formats may be written to a cell's log. Each is named by the release that brought it.

What a level adds is written only after an operator has enabled it (`jobledger cluster enable`), so that the releases
before it can still read everything until then. It is read from the release on that has it, whatever is enabled.
"""

from __future__ import annotations

import re
from typing import Any

from jobledger.domain.values import Code, Rejection

#: By number, the oldest first.
LEVELS: dict[int, str] = {1: "0.1", 2: "0.2"}
#: A release by its minor version, or one of its patches: "0.2", "0.2.1", "0.2.0.dev0", "0.2.0rc1".
_RELEASE = re.compile(r"(\d+\.\d+)(?:\.\d+(?:\.?(?:dev|a|b|rc|post)\d+)?)?")
OLDEST, NEWEST = min(LEVELS), max(LEVELS)


def not_enabled(cls: type[Any], level: int) -> Rejection:
    """Why an event or command of a class is not written yet, and what to do."""
    release = LEVELS.get(level, str(level))
    message = (
        f"'{cls.__struct_config__.tag}' is in the formats of {release}, which are not enabled: an operator runs "
        f"`jobledger cluster enable {release}` once every role is of that release."
    )
    return Rejection(code=Code.NOT_ENABLED, message=message)


def level_of(release: str) -> int | None:
    """The level that a release, such as "0.2" or "0.2.1", brought or has; None for one that this one does not know."""
    found = _RELEASE.fullmatch(release)
    return next((level for level, name in LEVELS.items() if found and name == found[1]), None)
