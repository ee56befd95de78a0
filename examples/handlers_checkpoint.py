"""Long work in steps: a later attempt goes on where the last checkpoint was."""

from __future__ import annotations

import time

from jobledger import Context, handler


@handler("import_pages")
def import_pages(payload: int, ctx: Context) -> dict[str, int]:
    """Import `payload` pages; each may be imported again after a crash, so each is written under its number."""
    done: int = ctx.last_checkpoint or 0
    for page in range(done, payload):
        ctx.raise_if_cancelled()
        time.sleep(0.05)  # a real one would fetch the page and write it, with ctx.fencing_token where it is checked
        ctx.checkpoint(page + 1)
    return {"pages": payload, "attempt": ctx.attempt}
