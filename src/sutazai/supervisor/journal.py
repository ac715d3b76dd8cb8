"""Why it exists: ``sutazaid``'s own log has the same form as everybody's: one JSON object a line, with its time.

So that ``control`` can sort, filter and cite it. Guard and ``sutazaid`` write to the same file.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Literal


def say(text: str, level: Literal["info", "warning", "error"] = "info") -> None:
    """Write one line; a full disk or a closed terminal is survived."""
    line = json.dumps({"at_wall_ms": time.time_ns() // 1_000_000, "level": level, "text": text}, ensure_ascii=False)
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        return
