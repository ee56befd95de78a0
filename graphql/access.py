"""Who may ask an api, and how often."""

from __future__ import annotations

import math
import time

from graphql import GraphQLError
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from jobledger.domain.values import Actor, ActorKind
from jobledger.graphql.api_keys import PREFIX, ApiKeys, Fault
from jobledger.graphql.caller import ANONYMOUS
from jobledger.schemas.error_codes import RATE_LIMITED, UNAUTHENTICATED
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics

ENDPOINT = "/graphql"
_HOW = f"send a key as `Authorization: Bearer {PREFIX}_…`; our clients take it from JOBLEDGER_API_KEY"
_FAULTS = {
    Fault.MISSING: "The request has no API key",
    Fault.MALFORMED: "The Authorization header is not that of an API key",
    Fault.UNKNOWN: "The API key is not one that this api accepts",
}


class AccessError(GraphQLError):
    """A caller who may not ask, or not now. `status` and `headers` are those of an HTTP answer."""

    def __init__(self, code: str, message: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(message, extensions={"code": code})
        self.code = code
        self.status = status
        self.headers = headers


class Access:
    """The gate of an api process; what it has counted is its own."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._keys = ApiKeys(settings.api_keys)
        self._metrics = metrics
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._of_tenant = _limit(settings.api_tenant_limit)
        self._of_peer = _limit(settings.api_peer_limit)

    def actor(self, authorization: str) -> Actor:
        """Who the caller is, by the Authorization header. Raises AccessError."""
        if not self._keys:
            self._metrics.inc("api_auth_success_total", method="none")
            return ANONYMOUS
        holder = self._keys.holder(authorization)
        if isinstance(holder, Fault):
            self._metrics.inc("api_auth_failure_total", method="api_key", reason=holder.value)
            message = f"{_FAULTS[holder]}: {_HOW}."
            raise AccessError(UNAUTHENTICATED, message, 401, {"www-authenticate": "Bearer"})
        self._metrics.inc("api_auth_success_total", method="api_key")
        return Actor(ActorKind.USER, holder)

    async def count(self, tenant: str, peer: str) -> None:
        """Count a request of a tenant and a peer. Raises AccessError when it is one too many for either."""
        await self._hit(self._of_peer, "peer", peer, tenant)
        await self._hit(self._of_tenant, "tenant", tenant, tenant)

    async def _hit(self, limit: RateLimitItem | None, kind: str, name: str, tenant: str) -> None:
        if limit is None or await self._limiter.hit(limit, kind, name):
            return
        stats = await self._limiter.get_window_stats(limit, kind, name)
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        self._metrics.inc("api_rate_limit_exceeded_total", tenant_id=tenant, endpoint=ENDPOINT)
        message = f"Over {limit} for a {kind}, the limit of this api: try again in {seconds} s."
        raise AccessError(RATE_LIMITED, message, 429, {"retry-after": str(seconds)})


def _limit(text: str) -> RateLimitItem | None:
    return parse(text) if text else None
