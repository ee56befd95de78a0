"""TCP ports on the loopback address."""

from __future__ import annotations

import contextlib
import socket
import time

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def answers(port: int, timeout_seconds: float = 0.5) -> bool:
    """Whether somebody accepts connections on this port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout_seconds):
        return True
    return False


def wait_until_free(ports: list[int], timeout_seconds: float) -> list[int]:
    """Waits for former owners to let go; returns the ports that are still taken."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        taken = [port for port in ports if not is_free(port)]
        if not taken or time.monotonic() > deadline:
            return taken
        time.sleep(0.1)
