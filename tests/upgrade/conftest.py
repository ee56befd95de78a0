from __future__ import annotations

import sys
from pathlib import Path

for folder in (
    Path(__file__).parent,
    Path(__file__).parent.parent / "chaos",
    Path(__file__).parent.parent / "processors",
):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
