"""The API's address, and what comes from it, read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from jobledger.client.errors import JobledgerError, NotAnApi, Unavailable, error_from
from jobledger.client.spec import wrong

DEFAULT_URL = "http://127.0.0.1:8080"
GRAPHQL_PATH = "/graphql"
PROBE = {"query": "{ __typename }"}


def api_address(url: object) -> str:
    """The API's address without its path; raises InvalidInput."""
    right = f"an address of the API like {DEFAULT_URL}"
    if not isinstance(url, str):
        raise wrong("url", url, right)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or url != url.strip():
        raise wrong("url", url, right)
    return url.rstrip("/").removesuffix(GRAPHQL_PATH)


def checked_timeout(timeout: object, name: str = "timeout") -> float:
    """A number of seconds above 0; raises InvalidInput."""
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and math.isfinite(timeout) and timeout > 0:
        return float(timeout)
    raise wrong(name, timeout, "a number of seconds above 0")


def checked_headers(headers: object) -> dict[str, str]:
    """HTTP headers; raises InvalidInput."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise wrong("headers", headers, "a mapping of names to values")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or any(c in name + value for c in "\r\n\0"):
            raise wrong(f"headers[{name!r:.40}]", value, "text without line breaks")
    return dict(headers)


def with_key(headers: dict[str, str], api_key: object) -> dict[str, str]:
    """The headers with the key, unless they say themselves who asks; raises InvalidInput, which shows no key."""
    if not api_key or any(name.lower() == "authorization" for name in headers):
        return headers
    if not isinstance(api_key, str) or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise wrong("api_key", "…", "a key as `jobledger keys create` prints it")
    return {**headers, "Authorization": f"Bearer {api_key}"}


def unreachable(endpoint: str, error: Exception) -> Unavailable:
    """Nobody is there."""
    return Unavailable(
        f"The API at {endpoint} can't be reached ({error}); start it, or set JOBLEDGER_API_URL.", "UNAVAILABLE"
    )


def not_an_api(endpoint: str, what: str) -> NotAnApi:
    """Somebody else is there."""
    return NotAnApi(
        f"{endpoint} is not Jobledger's API: {what}; give the API's address ({DEFAULT_URL} unless it was changed) or "
        f"set JOBLEDGER_API_URL.",
        "NOT_AN_API",
        ["url"],
        endpoint,
    )


def data_of(endpoint: str, response: httpx.Response) -> dict[str, Any]:
    """`data` of an answer; raises the JobledgerError that its first error stands for."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not ("data" in body or "errors" in body):
        kind = response.headers.get("content-type", "something").partition(";")[0]
        if response.status_code >= 500:
            text = " ".join(response.text.split())[:200]
            raise Unavailable(f"The API at {endpoint} answered {response.status_code}: {text}", "UNAVAILABLE")
        raise not_an_api(endpoint, f"it answered {response.status_code} with {kind}, which is no answer of GraphQL")
    if body.get("errors"):
        raise graphql_error(body["errors"])
    data = body["data"]
    if not isinstance(data, dict):
        raise not_an_api(endpoint, "its answer has neither data nor errors")
    return data


def graphql_error(errors: Any) -> JobledgerError:
    """The exception for the first of the errors of an answer."""
    first = errors[0] if isinstance(errors, list) and errors else errors
    if not isinstance(first, Mapping):
        return JobledgerError(f"The API refused: {first!r:.200}")
    extensions = first.get("extensions") or {}
    return error_from({"path": first.get("path"), **extensions, "message": first.get("message")})
