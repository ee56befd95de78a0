"""The address a process listens on: taken at the start with one clear sentence, warned about when others reach it."""

from __future__ import annotations

import ipaddress
import socket

from jobledger.telemetry.logs import get_logger

BACKLOG = 1_024

log = get_logger()


class ListenError(Exception):
    """The listener can't have its address; the text is one sentence for the operator."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_if_exposed(host: str, port: int) -> None:
    """Log `listener_exposed` if a listener on `host` can be reached from elsewhere."""
    if not is_loopback(host):
        log.warning("listener_exposed", host=host, port=port)


def taken_sentence(host: str, port: int, setting: str, error: OSError) -> str:
    """The sentence that tells the operator why a listener didn't start and what to do."""
    reason = (error.strerror or str(error)).lower()
    return f"Cannot listen on {host}:{port} ({reason}); stop what uses it or set {setting} to another value."


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket, not blocking; port 0 takes a free one. `setting` is the variable that names the port.

    Raises `ListenError` when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. Event loops set it only on sockets that name their protocol; without it an
        # answer of two packets on a kept connection waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(taken_sentence(host, port, setting, error)) from error
    listener.setblocking(False)
    return listener
