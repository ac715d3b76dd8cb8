"""Why it exists: memory of the five agents, awake and hibernated, beside the same five as bare FastAPI processes.

The platform's own processes are listed one by one, so that nothing hides: with five agents it weighs more than they
do, with sixty-nine it does not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleets import demo
from measure import Row, cpu_s, fastapi_agents, pss_bytes, show
from tasks import client_of

from sutazai.client import SupervisorClient
from sutazai.testing.fleet import LiveFleet

MIB = 1024**2
IDLE_S = 5.0
HIBERNATE_S_MAX = 90.0
#: What the five agents' work needs, in the order of the manifest; the bare processes import the same.
IMPORTS = (
    "",
    "",
    "import numpy, scipy.stats",
    "import numpy, scipy.stats, statsmodels.tsa.api",
    "",
)
ASKS = (
    ("health-monitor", "report", {"window_s": 30}),
    ("ram-hardware-optimizer", "analyse", {"window_s": 30}),
    ("system-performance-forecaster", "exhaustion", {"subject": "leaky-shop"}),
    ("incident-timeline-writer", "timeline", {"window_s": 30}),
    ("agentzero-coordinator", "plan", {"goal": "find what is unhealthy", "use_llm": False}),
)


def bare(imports: tuple[str, ...]) -> tuple[int, float]:
    """Measure the PSS of five bare processes and their idle CPU share of a core."""
    with fastapi_agents(5, imports) as agents:
        pids = [pid for pid, _ in agents]
        before = cpu_s(pids)
        time.sleep(IDLE_S)
        return pss_bytes(pids), (cpu_s(pids) - before) / IDLE_S


def fleet() -> tuple[int, int, list[tuple[str, int]], float, int]:
    """Measure PSS of the instances awake, their number, PSS by platform process, idle CPU, instances after a while."""
    with LiveFleet(
        demo().replace("keep: {critical: 5m, standard: 1m}", "keep: {critical: 2s, standard: 2s}"), name="bm"
    ) as live:
        client = client_of(live)
        with SupervisorClient(live.name) as supervisor:
            asked = [{"agent": agent, "skill": skill, "input": given} for agent, skill, given in ASKS]
            for entry in client.submit(asked):
                client.wait(entry["id"], timeout_s=120)
            status = supervisor.status()
            awake = [entry["pid"] for entry in status["instances"] if entry["pid"]]
            instances = pss_bytes(awake)
            platform = [(entry["name"], pss_bytes([entry["pid"]])) for entry in status["processes"] if entry["pid"]]
            platform.append(("spare processes", pss_bytes([entry["pid"] for entry in status["spares"]])))
            daemon = [int((Path(live.env["SUTAZAI_RUN_ROOT"]) / live.name / "guard.pid").read_text().split()[0])]
            children = Path(f"/proc/{daemon[0]}/task/{daemon[0]}/children").read_text().split()
            daemon += [int(pid) for pid in children if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            platform.insert(0, ("guard + sutazaid", pss_bytes(daemon)))
            before = cpu_s(daemon)
            time.sleep(IDLE_S)
            idle = (cpu_s(daemon) - before) / IDLE_S
            until = time.monotonic() + HIBERNATE_S_MAX
            while (left := len(supervisor.status()["instances"])) and time.monotonic() < until:
                time.sleep(0.5)
        client.close()
    return instances, len(awake), platform, idle, left


def main() -> bool:
    """Measure both sides in one run and print the tables."""
    plain, plain_cpu = bare(())
    same, _ = bare(IMPORTS)
    instances, count, platform, idle, left = fleet()
    daemon = platform[0][1]
    rows = [
        Row(
            f"PSS of {count} instances awake, after work",
            f"{instances / MIB:.0f} MB",
            f"{same / MIB:.0f} MB, 5 FastAPI processes with the same libraries",
            f"{same / max(instances, 1):.1f}×",
            "≥ 5× is promised for 69",
            None,
        ),
        Row(
            "the same against bare FastAPI that can do nothing",
            f"{instances / MIB:.0f} MB",
            f"{plain / MIB:.0f} MB, {plain_cpu:.1%} of a core idle",
            f"{plain / max(instances, 1):.1f}×",
            "–",
            None,
        ),
        Row("processes of the five, hibernated", f"{left}", "5", "–", "0", left == 0),
        Row("guard + sutazaid", f"{daemon / MIB:.1f} MB", "–", "–", "< 20 MB", daemon < 20 * MIB),
        Row("sutazaid idle", f"{idle:.2%} of a core", "–", "–", "< 1 %", idle < 0.01),
    ]
    show("Memory of the five agents", rows)
    print("\n| process | PSS |\n| --- | --- |")
    for name, size in platform:
        print(f"| {name} | {size / MIB:.1f} MB |")
    print(f"| all of them | {sum(size for _, size in platform) / MIB:.0f} MB |")
    return all(row.met is not False for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
