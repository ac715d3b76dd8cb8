"""Why it exists: how long a hibernated agent needs from "task sent" to the first line of its skill.

Beside it: starting a process for the agent, which is what a fleet without zygotes must do (import of the runtime and
of FastAPI's stack, until it answers).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleets import sleepers
from measure import Row, fastapi_agents, percentile, show
from tasks import client_of

from sutazai.client import SupervisorClient
from sutazai.testing.fleet import LiveFleet

WAKES = 200
AT_ONCE = 4
BURSTS = 50
STARTS = 5


def wakes() -> list[float]:
    """Wake one agent again and again, each time after it has hibernated; ms from sending to the first line."""
    took = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with LiveFleet(sleepers(Path(folder), 1, keep="50ms"), name="bw") as fleet:
            client = client_of(fleet)
            with SupervisorClient(fleet.name) as supervisor:
                for _ in range(WAKES):
                    while supervisor.status()["instances"]:
                        time.sleep(0.02)
                    sent_ns = time.time_ns()
                    accepted = client.submit([{"agent": "sleeper-0", "skill": "work", "input": {}}])[0]
                    done = client.wait(accepted["id"], timeout_s=60)
                    took.append((done["result"]["first_line_ns"] - sent_ns) / 1e6)
            client.close()
    return took


def bursts() -> list[float]:
    """Wake four agents at once: one spare stands ready, the others are forked and placed meanwhile; ms each."""
    took = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with LiveFleet(sleepers(Path(folder), AT_ONCE, keep="50ms"), name="bb") as fleet:
            client = client_of(fleet)
            with SupervisorClient(fleet.name) as supervisor:
                for _ in range(BURSTS):
                    while supervisor.status()["instances"]:
                        time.sleep(0.02)
                    sent_ns = time.time_ns()
                    tasks = [{"agent": f"sleeper-{i}", "skill": "work", "input": {}} for i in range(AT_ONCE)]
                    for accepted in client.submit(tasks):
                        done = client.wait(accepted["id"], timeout_s=60)
                        took.append((done["result"]["first_line_ns"] - sent_ns) / 1e6)
            client.close()
    return took


def starts() -> list[float]:
    """Start a bare FastAPI agent until it answers; ms."""
    took = []
    for _ in range(STARTS):
        begun = time.monotonic()
        with fastapi_agents(1):
            took.append((time.monotonic() - begun) * 1_000)
    return took


def main() -> bool:
    """Measure both and print the table."""
    ours, burst, other = wakes(), bursts(), starts()
    p50, p99, peer = percentile(ours, 0.5), percentile(ours, 0.99), percentile(other, 0.5)
    rows = [
        Row(
            "wake p50", f"{p50:.1f} ms", f"{peer:.0f} ms to start a process", f"{peer / p50:.0f}×", "< 10 ms", p50 < 10
        ),
        Row("wake p99", f"{p99:.1f} ms", "–", "–", "< 30 ms", p99 < 30),
        Row(f"{AT_ONCE} woken at once, p50 of each", f"{percentile(burst, 0.5):.1f} ms", "–", "–", "–", None),
        Row(f"{AT_ONCE} woken at once, p99 of each", f"{percentile(burst, 0.99):.1f} ms", "–", "–", "–", None),
    ]
    show(f"Wake of a hibernated agent, {WAKES} times: from sending the task (commit included) to its first line", rows)
    return all(row.met is not False for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
