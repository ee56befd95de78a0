"""The name of a process among all others."""

from __future__ import annotations

import secrets
import socket

#: Made once for each process.
_OWN = secrets.token_hex(4)


def instance_name(role: str, configured: str = "") -> str:
    """The name that was configured for this process, or one that no other process has, on this machine or another.

    It has a random part: in containers process numbers are all the same, and host names may be.
    """
    return configured or f"{role}-{socket.gethostname().partition('.')[0][:40]}-{_OWN}"
