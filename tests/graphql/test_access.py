"""Who may ask, and how often: without a server."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobledger.domain.values import Actor, ActorKind
from jobledger.graphql.access import Access, AccessError
from jobledger.graphql.api_keys import ApiKeys, Fault, digest_of, new_key
from jobledger.graphql.caller import ANONYMOUS
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics


def _access(**settings: object) -> tuple[Access, Metrics]:
    metrics = Metrics("api", instance_id="a", strict=True)
    return Access(Settings(**settings), metrics), metrics  # type: ignore[arg-type]


def _entry(name: str, key: str) -> str:
    return f"{name}:{digest_of(key)}"


def test_a_key_is_long_and_never_the_same_and_its_digest_says_nothing_of_it() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("jl_") and len(key) == 46 for key in keys)
    key = keys.pop()
    assert key.removeprefix("jl_") not in _entry("ann", key)


def test_a_key_is_found_by_its_digest_and_what_is_wrong_with_another_is_told() -> None:
    ann, bob = new_key(), new_key()
    keys = ApiKeys([_entry("ann", ann), _entry("bob", bob)])
    assert keys.holder(f"Bearer {ann}") == "ann"
    assert keys.holder(f"bearer  {bob} ") == "bob"
    assert keys.holder("") is Fault.MISSING
    assert keys.holder(f"Bearer {new_key()}") is Fault.UNKNOWN
    assert keys.holder(f"Bearer {ann[:-1]}") is Fault.UNKNOWN
    for other in (f"Basic {ann}", ann, "Bearer", "Bearer eyJhbGciOi", f"Bearer jl_{'x' * 1000}"):
        assert keys.holder(other) is Fault.MALFORMED
    assert not ApiKeys([])


@pytest.mark.scenario("a caller is refused", emits=("api_auth_failure_total",))
def test_without_keys_everybody_may_ask_and_with_keys_whoever_has_one() -> None:
    open_to_all, metrics = _access()
    assert open_to_all.actor("") is ANONYMOUS
    assert metrics.registry.get_sample_value("api_auth_success_total", {"method": "none"}) == 1
    key = new_key()
    access, metrics = _access(api_keys=[_entry("ann", key)])
    assert access.actor(f"Bearer {key}") == Actor(ActorKind.USER, "ann")
    for authorization in ("", "Basic x", f"Bearer {new_key()}"):
        with pytest.raises(AccessError) as refused:
            access.actor(authorization)
        assert (refused.value.status, refused.value.headers) == (401, {"www-authenticate": "Bearer"})
        assert refused.value.extensions == {"code": "UNAUTHENTICATED"}
    value = metrics.registry.get_sample_value
    assert value("api_auth_success_total", {"method": "api_key"}) == 1
    for reason in ("missing", "malformed", "unknown"):
        assert value("api_auth_failure_total", {"method": "api_key", "reason": reason}) == 1


@pytest.mark.scenario("a caller is refused", emits=("api_rate_limit_exceeded_total",))
async def test_a_peer_and_a_tenant_are_limited_each_by_their_own() -> None:
    access, metrics = _access(api_peer_limit="2/hour", api_tenant_limit="3/hour")
    await access.count("t", "a")
    await access.count("t", "a")
    with pytest.raises(AccessError, match="2 per 1 hour for a peer") as refused:
        await access.count("t", "a")
    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["retry-after"]) <= 3600
    assert refused.value.extensions == {"code": "RATE_LIMITED"}
    await access.count("t", "b")
    with pytest.raises(AccessError, match="for a tenant"):
        await access.count("t", "c")
    await access.count("other", "c")
    labels = {"tenant_id": "t", "endpoint": "/graphql"}
    assert metrics.registry.get_sample_value("api_rate_limit_exceeded_total", labels) == 2


async def test_nobody_is_limited_unless_somebody_asked_for_it() -> None:
    access, metrics = _access()
    for _ in range(1_000):
        await access.count("t", "a")
    labels = {"tenant_id": "t", "endpoint": "/graphql"}
    assert metrics.registry.get_sample_value("api_rate_limit_exceeded_total", labels) is None


def test_settings_that_can_not_be_are_refused() -> None:
    for wrong in ({"api_keys": ["ann"]}, {"api_keys": ["ann:secret"]}, {"api_peer_limit": "many"}):
        with pytest.raises(ValidationError):
            Settings(**wrong)  # type: ignore[arg-type]
    assert Settings(api_keys=f"ann:{'0' * 64}, bob:{'1' * 64}").api_keys == [f"ann:{'0' * 64}", f"bob:{'1' * 64}"]  # type: ignore[arg-type]
