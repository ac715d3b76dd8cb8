"""Why it exists: after a power cut the store itself is asked, not a client that could hide something.

Runs inside the machine: ``tasks.py STORE`` with identifiers on standard input, one a line. Prints JSON: which are not
stored, the stored ones by status, and how many tasks have more than one committed result.
"""

import json
import sqlite3
import sys

STATUS = ("queued", "leased", "waiting", "succeeded", "failed", "dead", "cancelled", "expired")


def main() -> None:
    """Read only."""
    wanted = [line.strip() for line in sys.stdin if line.strip()]
    store = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=30)
    stored = dict(store.execute("SELECT id, status FROM tasks"))
    by_status: dict[str, int] = {}
    for identifier in wanted:
        if identifier in stored:
            word = STATUS[stored[identifier]]
            by_status[word] = by_status.get(word, 0) + 1
    doubled = store.execute(
        "SELECT count(*) FROM (SELECT task FROM turns WHERE outcome = 'result' GROUP BY task HAVING count(*) > 1)"
    ).fetchone()[0]
    again = "SELECT t.id FROM turns JOIN tasks t ON t.seq = turns.task WHERE turns.outcome = 'lost'"
    losses = sum(identifier in set(wanted) for (identifier,) in store.execute(again))
    check = store.execute("PRAGMA integrity_check").fetchone()[0]
    lost = [identifier for identifier in wanted if identifier not in stored]
    out = {"accepted": len(wanted), "lost": lost, "by_status": by_status, "stored": len(stored)}
    print(json.dumps({**out, "doubled": doubled, "turns_lost": losses, "integrity": check}))


if __name__ == "__main__":
    main()
