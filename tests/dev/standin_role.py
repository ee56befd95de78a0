"""A stand-in for a role: serves health on JOBLEDGER_HEALTH_PORT, ends on SIGTERM and with its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from jobledger.dev.parent import die_with_parent


def main() -> None:
    die_with_parent()
    role = os.environ["JOBLEDGER_INSTANCE_ID"]
    if "--check" in sys.argv:
        sys.exit(os.environ.get("STANDIN_BAD_HANDLERS") or 0)
    if role == os.environ.get("STANDIN_FAILS"):
        sys.exit("this role cannot start")
    if role == os.environ.get("STANDIN_REFUSES"):
        print('{"message": "a log line"}', flush=True)
        print("These settings cannot work.", file=sys.stderr, flush=True)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: end(role))
    threading.Thread(target=serve, daemon=True).start()
    if role == os.environ.get("STANDIN_LEAVES"):
        # Away from this role's session and group, as a daemon would be.
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(f'{{"message": "{role} started"}}', flush=True)
    while True:
        time.sleep(60)


def end(role: str) -> None:
    if role == os.environ.get("STANDIN_SLOW"):
        Path(os.environ["STANDIN_SLOW_FILE"]).write_text("asked")
        time.sleep(float(os.environ["STANDIN_SLOW_SECONDS"]))
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
            body = b'{"components": {"lease": {"running": 2}}}'
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)


if __name__ == "__main__":
    main()
