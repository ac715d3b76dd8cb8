"""What a task costs in a store that holds a thousand, a hundred thousand and a million older ones.

``python bench/queue_size.py [--sizes 1000 100000 1000000] [--tasks 300]``. One store file for each size, on disk, every
operation committed and synced by itself, as the broker would when it is idle. The sizes take turns, so that a disk that
is slow for a while is slow for all of them. The last line sums up; exit code 1 when the largest store is not flat.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sutazai.store import model
from sutazai.store.protocol import ClockReading
from sutazai.store.sqlite import SqliteStore
from sutazai.testing.full_store import fill

#: The steps of the database are the same (a test counts them); what grows is the depth of its trees, and so the pages
#: that a commit writes.
GROWTH_MAX = 1.5
OPEN_MS_MAX = 1_000  # a broker that is restarted is repaired within seconds, whatever it holds
VERBS = ("submit", "claim", "commit")


class Measured:
    """A store of one size with the times of its operations.

    Args:
        folder: where its file lies.
        size: older tasks.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        path = folder / f"{size}.sqlite"
        store = SqliteStore(path)
        fill(store._connection, 1, size)  # noqa: SLF001 what a year of work would have left
        store.close()
        started = time.perf_counter()
        self.store = SqliteStore(path)
        self.open_ms = (time.perf_counter() - started) * 1_000
        self.bytes = path.stat().st_size
        self.ms: dict[str, list[float]] = {verb: [] for verb in VERBS}
        self.now_ms = size + 1_000_000

    def do(self, verb: str, operation: model.Operation) -> object:
        """Do and sync one operation."""
        self.now_ms += 1
        started = time.perf_counter()
        self.store.begin()
        reply = self.store.apply(operation, self.now_ms, self.now_ms).reply
        self.store.commit(ClockReading(self.now_ms, 1, 1, ""))
        self.ms[verb].append((time.perf_counter() - started) * 1_000)
        return reply

    def cycle(self, number: int) -> None:
        """Take a task, claim it, commit it."""
        task = model.NewTask(f"t{number}", f"agent-{number % 24}", "do", '{"n": 1}', 5, 60_000, 4)
        self.do("submit", model.Submit((task,)))
        turn = self.do("claim", model.Claim(task.agent, "k", 1))
        assert isinstance(turn, model.Turn)
        self.do("commit", model.Commit(turn.task, turn.fence, "k", "result", result='{"done": true}'))

    def median(self, verb: str) -> float:
        """Milliseconds."""
        return sorted(self.ms[verb])[len(self.ms[verb]) // 2]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--tasks", type=int, default=300, help="cycles in each store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="queue-size") as folder:
        stores = [Measured(Path(folder), size) for size in options.sizes]
        for number in range(options.tasks):
            for measured in stores:
                measured.cycle(number)
        print(
            f"{'tasks stored':>12} {'file MB':>8} {'open ms':>8} "
            + " ".join(f"{verb + ' p50 ms':>14}" for verb in VERBS)
        )
        for measured in stores:
            times = " ".join(f"{measured.median(verb):14.3f}" for verb in VERBS)
            print(f"{measured.size:12} {measured.bytes / 2**20:8.0f} {measured.open_ms:8.0f} {times}")
        total = [sum(measured.median(verb) for verb in VERBS) for measured in stores]
        growth = total[-1] / total[0]
        for measured in stores:
            measured.store.close()
    flat = growth <= GROWTH_MAX and stores[-1].open_ms <= OPEN_MS_MAX
    sizes = f"{options.sizes[-1]} tasks stored as with {options.sizes[0]}"
    opening = f"opening takes {stores[-1].open_ms:.0f} ms"
    print(f"a task costs {growth:.2f} times as much with {sizes}, {opening}: {'flat' if flat else 'NOT flat'}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
