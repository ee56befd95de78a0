"""A stand-in for a role: serves health on JOBLEDGER_HEALTH_PORT, ends on SIGTERM and with its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from jobledger.dev.parent import die_with_parent


def main() -> None:
    die_with_parent()
    role = os.environ["JOBLEDGER_INSTANCE_ID"]
    if role == os.environ.get("STANDIN_FAILS"):
        sys.exit("this role cannot start")
    signal.signal(signal.SIGTERM, lambda *_: end(role))
    threading.Thread(target=serve, daemon=True).start()
    print(f'{{"message": "{role} started"}}', flush=True)
    while True:
        time.sleep(60)


def end(role: str) -> None:
    if order := os.environ.get("STANDIN_ORDER"):
        with Path(order).open("a") as ended:
            ended.write(f"{role}\n")
    sys.exit(0)


def serve() -> None:
    server = socket.create_server(("127.0.0.1", int(os.environ["JOBLEDGER_HEALTH_PORT"])))
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


if __name__ == "__main__":
    main()
