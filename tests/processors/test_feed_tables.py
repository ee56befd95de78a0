"""The feed has no tables: Faust's second of waiting for some is left out, and nothing else of their start."""

from __future__ import annotations

import inspect

from faust.tables.manager import TableManager

from jobledger.processors.faust_internals import BareApp


def test_the_start_of_the_tables_is_fausts_own_but_for_the_wait() -> None:
    """Line by line; a Faust that starts its tables in another way is to be looked at anew."""
    tables = BareApp("c", broker="kafka://127.0.0.1:9").tables
    theirs, ours = (
        [line.strip() for line in inspect.getsource(method).splitlines() if "await" in line or "if " in line]
        for method in (TableManager.on_start, type(tables).on_start)
    )
    assert theirs == ["await self.sleep(1.0)", "if not self.should_stop:", *ours] and len(ours) == 2
