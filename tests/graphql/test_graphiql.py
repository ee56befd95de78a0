"""GraphiQL works without the internet: what its page loads comes from this process."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlparse

import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from jobledger.graphql.graphiql import graphiql_page, graphiql_routes


def page(request: Any) -> Response:
    return graphiql_page()


def client() -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/graphql", page), *graphiql_routes()])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api")


async def test_the_page_names_no_foreign_host_and_all_that_it_loads_is_served() -> None:
    async with client() as browser:
        answer = await browser.get("/graphql")
        assert not re.search(r"(https?:)?//", answer.text), answer.text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
        files = [name for name in loaded if not name.startswith("data:")]
        assert len(files) == 8
        for name in files:
            assert not urlparse(name).netloc
            found = await browser.get(name)
            kind = "css" if name.endswith(".css") else "javascript"
            assert found.status_code == 200 and kind in found.headers["content-type"], name
            assert len(found.content) > 100


async def test_neither_styles_nor_the_start_of_the_page_load_from_elsewhere() -> None:
    """And the browser is told to ask nobody but this process."""
    async with client() as browser:
        policy = (await browser.get("/graphql")).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "http" not in policy and "*" not in policy
        for name in ("graphiql.min.css", "style.css"):
            style = (await browser.get(f"/graphql/assets/{name}")).text
            assert all(found.startswith("data:") for found in re.findall(r"url\(['\"]?([^)'\"]+)", style))
        script = (await browser.get("/graphql/graphiql.js")).text
        assert "http" not in script.replace("/^http/", "")
        assert (await browser.get("/graphql/assets/..%2f__init__.py")).status_code == 404
