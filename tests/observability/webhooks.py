"""A server that writes down what Alertmanager sends to which receiver, and when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Told(NamedTuple):
    """One alert in one notification."""

    receiver: str
    alert: str
    status: str
    """firing or resolved"""
    labels: dict[str, str]
    at: float
    """Seconds of the monotonic clock."""


class Webhooks:
    """Listens at `url`; the last part of a path is the receiver. `on_told` is called before the answer."""

    def __init__(self, on_told: Callable[[Told], None] = lambda told: None) -> None:
        notes: list[Told] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    labels = alert["labels"]
                    receiver = self.path.rpartition("/")[2]
                    notes.append(Told(receiver, labels["alertname"], alert["status"], labels, time.monotonic()))
                    on_told(notes[-1])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.told = notes
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def first(self, alert: str, receiver: str, status: str = "firing", **labels: str) -> float | None:
        """When a receiver was first told of an alert with these labels; None: not yet."""
        for one in list(self.told):
            if (one.alert, one.receiver, one.status) == (
                alert,
                receiver,
                status,
            ) and labels.items() <= one.labels.items():
                return one.at
        return None

    def told_of(self, alert: str) -> bool:
        """Whether anybody was told that it fires."""
        return any((one.alert, one.status) == (alert, "firing") for one in list(self.told))

    def last(self, alert: str, status: str) -> bool:
        """Whether the last that anybody was told of an alert is that it has this status."""
        found = [one.status for one in list(self.told) if one.alert == alert]
        return found[-1:] == [status]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
