"""The retry policy as those who write handlers and submit jobs give it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from jobledger.domain import values

MAX_ATTEMPTS = 1_000
MAX_GIVE_UP_ON = 32
_DAY_SECONDS = 86_400
#: Fields of a policy with their least and greatest values, as the API has them.
RETRY_BOUNDS = (
    ("max_attempts", 1, MAX_ATTEMPTS),
    ("initial_seconds", 0, _DAY_SECONDS),
    ("factor", 1, 100),
    ("max_seconds", 0, 30 * _DAY_SECONDS),
    ("jitter_ratio", 0, 1),
)


class RetryPolicy(values.RetryPolicy, frozen=True, kw_only=True, omit_defaults=True):
    """How often and how long after a failure a task is tried again; seconds.

    `give_up_on`: errors after which no attempt is of use, as classes or by name; a subclass counts as its base.
    Raises ValueError for what is neither.
    """

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            max_attempts: int = 3,
            initial_seconds: float = 1.0,
            factor: float = 2.0,
            max_seconds: float = 300.0,
            jitter_ratio: float = 0.1,
            give_up_on: Iterable[str | type[BaseException]] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        """What is kept of the errors are their names."""
        msgspec.structs.force_setattr(self, "give_up_on", _names(self.give_up_on))


def policy_of(given: object) -> RetryPolicy:
    """The policy of what was given: one, or a number of attempts. Raises ValueError naming the field that is wrong."""
    if isinstance(given, int) and not isinstance(given, bool):
        policy = RetryPolicy(max_attempts=given)
    elif isinstance(given, values.RetryPolicy):
        policy = RetryPolicy(**msgspec.structs.asdict(given))
    else:
        raise ValueError(f"it is {given!r:.80}, but must be a RetryPolicy or a number of attempts.")
    for name, least, most in RETRY_BOUNDS:
        value = getattr(policy, name)
        number = isinstance(value, int) if name == "max_attempts" else isinstance(value, int | float)
        if not number or isinstance(value, bool) or not math.isfinite(value) or not least <= value <= most:
            raise ValueError(f"{name} is {value!r:.80}, but must be {least:g} to {most:g}.")
    return policy


def _names(errors: object) -> tuple[str, ...]:
    right = f"at most {MAX_GIVE_UP_ON} classes of errors or their names, in a list"
    if isinstance(errors, str | type) or not isinstance(errors, Iterable):
        raise ValueError(f"give_up_on is {errors!r:.80}, but must be {right}.")
    names = []
    for error in errors:
        if isinstance(error, type) and issubclass(error, BaseException):
            names.append(error.__name__)
        elif isinstance(error, str) and error.isidentifier():
            names.append(error)
        else:
            raise ValueError(f"give_up_on has {error!r:.80}, but must be {right}.")
    if len(names) > MAX_GIVE_UP_ON:
        raise ValueError(f"give_up_on has {len(names)} errors, but must be {right}.")
    return tuple(dict.fromkeys(names))
