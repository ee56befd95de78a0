"""Positions: how far a reader has come, as a vector of (partition, seq)."""

from __future__ import annotations

import base64
import binascii

Vector = dict[int, int]


class InvalidPositionError(ValueError):
    """The text is not a position of this cell."""


def encode_position(cell: str, vector: Vector) -> str:
    """An opaque token for a vector; it names the cell, so that one from elsewhere is recognised."""
    body = ",".join(f"{partition}:{seq}" for partition, seq in sorted(vector.items()))
    return base64.urlsafe_b64encode(f"{cell}|{body}".encode()).decode().rstrip("=")


def parse_position(token: str) -> tuple[str, Vector]:
    """Cell and vector of a token; raises InvalidPositionError for what is none."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        origin, _, body = text.partition("|")
        return origin, {int(p): int(s) for p, _, s in (item.partition(":") for item in body.split(",") if item)}
    except (ValueError, binascii.Error) as error:
        raise InvalidPositionError(f"'{token[:80]}' is not a position; use one that an answer gave.") from error


def decode_position(cell: str, token: str, partitions: int) -> Vector:
    """The vector in a token; raises InvalidPositionError for anything that this cell did not make."""
    origin, vector = parse_position(token)
    if origin != cell:
        raise InvalidPositionError(f"'{token[:80]}' is a position of another cell ('{origin[:40]}'), not of '{cell}'.")
    if any(not 0 <= p < partitions or s < 0 for p, s in vector.items()):
        raise InvalidPositionError(f"'{token[:80]}' names a partition that this cell does not have.")
    return vector


def reached(vector: Vector, wanted: Vector) -> bool:
    """Whether a reader at `vector` has seen everything up to `wanted`."""
    return all(vector.get(partition, 0) >= seq for partition, seq in wanted.items())
