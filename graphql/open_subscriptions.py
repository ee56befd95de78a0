"""How many subscriptions of all kinds a process has, and the bound on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics

MAX_SUBSCRIPTIONS = 2_000

log = get_logger()


class OpenSubscriptions:
    """Counts them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open = 0
        metrics.set("jobledger_subscriptions", 0)

    @contextmanager
    def one(self) -> Iterator[None]:
        """While one is open; raises QueryError when there are too many."""
        if self._open >= MAX_SUBSCRIPTIONS:
            problem = f"This api process has {MAX_SUBSCRIPTIONS:,} subscriptions"
            raise QueryError(user_error(ErrorCode.UNAVAILABLE, problem, "try again, or use another one"))
        self._open += 1
        self._metrics.set("jobledger_subscriptions", self._open)
        log.debug("subscription_opened")
        try:
            yield
        finally:
            self._open -= 1
            self._metrics.set("jobledger_subscriptions", self._open)
            log.debug("subscription_closed", reason="ended")
