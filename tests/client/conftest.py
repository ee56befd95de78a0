from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pytest_asyncio

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)

from client_stack import client, stack  # noqa: E402, F401 - fixtures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a file run in one loop, so that they can share a stack."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
