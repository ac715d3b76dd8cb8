"""Why it exists: how long `sutazai up` takes from nothing to all ready, and a second one that has nothing to do."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleets import demo
from measure import Row, percentile, show

from sutazai.testing.fleet import LiveFleet

ROUNDS = 3


def main() -> bool:
    """Measure cold and repeated `up`, medians, and print the table."""
    cold, again, down = [], [], []
    for index in range(ROUNDS):
        begun = time.monotonic()
        with LiveFleet(demo(), name=f"bu{index}") as fleet:
            cold.append(time.monotonic() - begun)
            begun = time.monotonic()
            fleet.command("up", str(fleet.path))
            again.append(time.monotonic() - begun)
            begun = time.monotonic()
            fleet.command("down")
            down.append(time.monotonic() - begun)
    first = percentile(cold, 0.5)
    second = percentile(again, 0.5)
    rows = [
        Row("up, cold, model file present", f"{first:.1f} s", "–", "–", "< 15 s", first < 15),
        Row("up again, nothing to do", f"{second:.1f} s", "–", "–", "< 5 s", second < 5),
        Row("down", f"{percentile(down, 0.5):.1f} s", "–", "–", "–", None),
    ]
    show(f"Start of the demonstration's fleet, median of {ROUNDS}", rows)
    return all(row.met is not False for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
