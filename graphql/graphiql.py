"""GraphiQL, the page to try queries in: all that it loads is served by this process, from an installed package."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

#: Ships GraphiQL, its explorer, React and the client of subscriptions as files. Nothing of it is imported.
PACKAGE = "graphene_django_graphiql_static"
ASSETS = "/graphql/assets"
START = "/graphql/graphiql.js"
#: A browser asks nobody but this process, whatever a script would like to load.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
_PAGE = f"""<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Jobledger GraphiQL</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="{ASSETS}/graphiql.min.css">
    <link rel="stylesheet" href="{ASSETS}/style.css">
    <style>html, body, #graphiql {{ height: 100vh; margin: 0; }}</style>
  </head>
  <body>
    <div id="graphiql">Loading…</div>
    <script src="{ASSETS}/react.production.min.js"></script>
    <script src="{ASSETS}/react-dom.production.min.js"></script>
    <script src="{ASSETS}/graphiql.min.js"></script>
    <script src="{ASSETS}/graphql-ws.min.js"></script>
    <script src="{ASSETS}/graphiql-plugin-explorer.umd.js"></script>
    <script src="{START}"></script>
  </body>
</html>
"""
_SCRIPT = """"use strict";
const url = window.location.origin + window.location.pathname;
const fetcher = GraphiQL.createFetcher({
  url,
  wsClient: graphqlWs.createClient({ url: url.replace(/^http/, "ws") }),
});
ReactDOM.render(
  React.createElement(GraphiQL, {
    fetcher,
    plugins: [GraphiQLPluginExplorer.explorerPlugin()],
    defaultQuery: "{ jobs(first: 10) { edges { node { id handler status } } } }",
    defaultEditorToolsVisibility: true,
    inputValueDeprecation: true,
  }),
  document.getElementById("graphiql"),
);
"""


def graphiql_page() -> Response:
    """The page."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})


def graphiql_routes() -> list[BaseRoute]:
    """What the page loads."""

    def start(request: Request) -> Response:
        return Response(_SCRIPT, media_type="text/javascript")

    files = StaticFiles(packages=[(PACKAGE, f"static/{PACKAGE}")])
    return [Route(START, start, methods=["GET"]), Mount(ASSETS, files)]
