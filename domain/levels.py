"""Format levels: which formats may be written to a cell's log. Each is named by the release that brought it.

What a level adds is written only after an operator has enabled it (`jobledger cluster enable`), so that the releases
before it can still read everything until then. It is read from the release on that has it, whatever is enabled.
"""

from __future__ import annotations

#: By number, the oldest first.
LEVELS: dict[int, str] = {1: "0.1", 2: "0.2"}
OLDEST, NEWEST = min(LEVELS), max(LEVELS)


def level_of(release: str) -> int | None:
    """The level that a release, such as "0.2" or "0.2.1", brought or has; None for one that this one does not know."""
    named = ".".join(release.split(".")[:2])
    return next((level for level, name in LEVELS.items() if name == named), None)
