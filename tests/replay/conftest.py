from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent.parent / "processors", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
