"""What no part of the product writes."""

from __future__ import annotations


def nonsense(a: int, b: int) -> bytes:
    """Bytes that no part of the product writes."""
    head = b'{"commands":[{"id":"foreign-%d","stream":"%s","actor":{"kind":"user","id":"x"},"body":' % (a, b"%s")
    cancel = b'{"type":"job.cancel.v1"}}]}'
    match b % 8:
        case 1:
            return bytes([a, 0, 255 - a, b]) * (1 + b)
        case 2:
            return b'{"commands":[{"id":7},{"id":"foreign","stream":"job:default:x","body":{"type":"no.such.v1"}},17]}'
        case 3:
            return head % b"nothing:default:x" + cancel
        case 4:
            return head % b"job" + cancel
        case 5:
            return b"[" * 4_000 + b"]" * 4_000
        case 6:
            return b'{"commands":[],"source":%d,"number":%d}' % (a % 2, 900 + b)
        case _:
            long = b"x" * (1_200_000, 700_000)[a % 2]  # too long for a command, and for an id alone
            return b'{"commands":[{"id":"foreign-%s","stream":"job:default:%s",' % (long, long[:9]) + (
                b'"actor":{"kind":"user","id":"x"},"reply":true,"body":{"type":"job.cancel.v1"}}]}'
            )
