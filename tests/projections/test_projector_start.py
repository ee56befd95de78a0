"""The start of a projector: what it waits for is said."""

from __future__ import annotations

import psycopg
import pytest
from structlog.testing import capture_logs

from jobledger.dev.ports import free_port
from jobledger.projections.preparing import prepare
from jobledger.settings import Settings


def test_a_start_without_postgres_says_once_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before it gives up; a person who looks into the log shall not find it empty."""
    monkeypatch.setenv("JOBLEDGER_POSTGRES_DSN", f"postgresql://127.0.0.1:{free_port()}/nobody")
    with capture_logs() as lines, pytest.raises(psycopg.OperationalError):
        prepare(Settings(), timeout=1.0)
    told = [line for line in lines if line["event"] == "db_connection_lost"]
    assert len(told) == 1
    assert "refused" in told[0]["error"]
