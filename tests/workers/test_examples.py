from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from jobledger import JobFailed
from jobledger.testing import inline

EXAMPLES = Path(__file__).parents[2] / "examples"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_examples_do_what_they_say() -> None:
    """The example handlers run in inline mode with the results that the documentation shows."""
    first, second = _load("handlers"), _load("handlers_checkpoint")
    with inline() as client:
        assert client.submit(first.send_email, {"to": "a@b"}).result() == {"sent_to": "a@b"}
        with pytest.raises(JobFailed, match="not an address"):
            client.submit(first.send_email, {"to": "nobody"}).result()
        assert client.submit(first.count_functions, {"path": __file__}).result() == {"functions": 2}
        assert client.submit(second.import_pages, 3).result() == {"pages": 3, "attempt": 1}
