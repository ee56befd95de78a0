"""Workers that were lost in the last hour: a note beside the read models, from which pools are judged."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from jobledger.projections.columns import Change, Key

#: How long a lost worker counts as one that its pool has and lacks.
KEPT_MS = 3_600_000

# What registered in the same batch is not in `workers` yet: its pool is known from the event then.
_NOTE = (
    "INSERT INTO lost_workers (tenant, queue, incarnation, worker, pool, lost_at_ms)"
    " SELECT s.tenant, s.queue, s.incarnation, s.worker, coalesce(s.pool, w.pool), s.lost_at_ms"
    " FROM json_to_recordset(%s::json) AS s(tenant text, queue text, incarnation text, worker text, pool text,"
    " lost_at_ms bigint) LEFT JOIN workers w USING (tenant, queue, incarnation)"
    " WHERE coalesce(s.pool, w.pool) IS NOT NULL ON CONFLICT (tenant, queue, incarnation) DO NOTHING"
)
_FORGET = "DELETE FROM lost_workers WHERE lost_at_ms < %s"


def note_lost(connection: psycopg.Connection[Any], lost: dict[Key, Change], now_ms: int) -> None:
    """Note workers by their keys in `workers`, with `worker`, `lost_at_ms` and, if known, `pool`; forget older ones.

    Before their rows are deleted, and in the same transaction.
    """
    rows = [dict(zip(("tenant", "queue", "incarnation"), key, strict=True), **values) for key, values in lost.items()]
    connection.execute(_NOTE, [msgspec.json.encode(rows).decode()])
    connection.execute(_FORGET, [now_ms - KEPT_MS])
