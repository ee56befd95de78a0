"""For the tests of those who write handlers: `from jobledger.testing import inline`."""

from __future__ import annotations

from jobledger.workers.inline import AsyncInlineClient, AsyncInlineJob, InlineClient, InlineJob, inline

__all__ = ["AsyncInlineClient", "AsyncInlineJob", "InlineClient", "InlineJob", "inline"]
