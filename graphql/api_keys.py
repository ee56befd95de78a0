"""API keys: secrets of 256 random bits. An api knows their digests alone, by the name of who has the key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from enum import StrEnum

PREFIX = "jl"
_SECRET_BYTES = 32
#: Longer than any key that was ever made.
_MAX_LENGTH = 200


class Fault(StrEnum):
    """Why a caller is nobody."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"


def new_key() -> str:
    """A key that nobody has; it is not kept anywhere."""
    return f"{PREFIX}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest_of(key: str) -> str:
    """SHA-256, in hex. No slow hash: there is nothing to guess in so many random bits."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """The keys that are accepted, as `name:digest` each; none: everybody may ask."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names = dict(entry.split(":", 1)[::-1] for entry in entries)

    def __bool__(self) -> bool:
        return bool(self._names)

    def holder(self, authorization: str) -> str | Fault:
        """Whose key stands in an Authorization header, `Bearer jl_…`. Every digest is compared, in constant time."""
        if not authorization:
            return Fault.MISSING
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key.startswith(f"{PREFIX}_") or len(key) > _MAX_LENGTH:
            return Fault.MALFORMED
        given = digest_of(key)
        found = [name for digest, name in self._names.items() if hmac.compare_digest(digest, given)]
        return found[0] if found else Fault.UNKNOWN
