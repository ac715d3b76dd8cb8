"""Why it exists: a workflow of a thousand steps must cost no more for each step than one of ten.

The same step (a skill that adds) is done 10 and 1 000 times in a list, and as items of a map; each run is durable, one
commit of the orchestrator and one of the agent for each step. Runs of ten are repeated until they have as many steps in
all as one of the long runs, the two kinds by turns, so that a busy machine hurts both alike.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from measure import Row, show

from sutazai.client import TaskClient
from sutazai.testing.fleet import LiveFleet
from sutazai.workflow import Workflow, ask, each

SHORT, LONG, PART, ROUNDS, SHORT_RUNS = 10, 1_000, 100, 3, 20
RATIO_MAX = 1.25
WORKER = '''
from sutazai.runtime import Agent

agent = Agent("adder")


@agent.skill
def add(a: float, b: float = 1) -> float:
    """Add two numbers."""
    return a + b
'''


def listed(steps: int) -> dict[str, Any]:
    """A list of steps, each of which uses the result of the one before."""
    flow = Workflow("listed")
    for number in range(steps):
        flow.add(ask(f"s{number}", "adder.add", a=f"${{steps.s{number - 1}.result}}" if number else 0))
    return flow.document()


def mapped(steps: int) -> dict[str, Any]:
    """A map with as many items, four at once."""
    flow = Workflow("mapped", {"numbers": "array"})
    flow.add(each("items", "inputs.numbers", ask("do", "adder.add", a="${item}"), width=4))
    return {**flow.document(), "_inputs": {"numbers": list(range(steps))}}


def run(client: TaskClient, document: dict[str, Any]) -> tuple[float, str]:
    """Run a workflow; gives seconds from its acceptance to its result, and its task."""
    inputs = document.get("_inputs", {})
    given = {"workflow": {key: value for key, value in document.items() if key != "_inputs"}, "inputs": inputs}
    task = client.submit([{"agent": "agent-orchestrator", "skill": "run", "input": given}])[0]["id"]
    done = client.wait(task, 300)
    if done["status"] != "succeeded":
        raise SystemExit(f"the run failed: {done['error']}")
    return (done["finished_wall_ms"] - done["created_wall_ms"]) / 1_000, task


def ends(client: TaskClient, task: str) -> tuple[float, float]:
    """Milliseconds a step of the first and of the last hundred steps of a run."""
    over = sorted(entry["finished_wall_ms"] for entry in client.tree(task) if entry["agent"] == "adder")
    return (over[PART] - over[0]) / PART, (over[-1] - over[-1 - PART]) / PART


def compare(client: TaskClient, make: Any) -> list[float]:
    """Milliseconds a step, medians of the rounds: short runs, long runs, the first and the last part of long ones."""
    short, long = make(SHORT), make(LONG)
    run(client, short)
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        brief = sum(run(client, short)[0] for _ in range(SHORT_RUNS)) / (SHORT * SHORT_RUNS) * 1_000
        seconds, task = run(client, long)
        rounds.append([brief, seconds / LONG * 1_000, *ends(client, task)])
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> bool:
    """Measure and print."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bw", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "adder.py"
        path.write_text(WORKER)
        manifest = (
            "fleet: {fleet}\nport_offset: {offset}\nagents:\n  agent-orchestrator:\n"
            f"  adder: {{file: {path}, port: 10480, pool: standard, memory: 64MB, instances: 2}}\n"
        )
        with LiveFleet(manifest) as fleet:
            os.environ.update({key: fleet.env[key] for key in ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT")})
            with TaskClient(fleet.name) as client:
                for kind, make in (("list", listed), ("map", mapped)):
                    rows += table(kind, *compare(client, make))
    show(f"Workflows: {SHORT} against {LONG} steps", rows)
    return all(row.met is not False for row in rows)


def table(kind: str, short: float, long: float, first: float, last: float) -> list[Row]:
    """The rows of one kind of block."""
    target = f"≤ {RATIO_MAX}×"
    return [
        Row(f"{kind}, {LONG} steps: a step", f"{long:.2f} ms", f"{short:.2f} ms in runs of {SHORT}",
            f"{long / short:.2f}×", target, long <= RATIO_MAX * short),
        Row(f"{kind}: a step of the last {PART}", f"{last:.2f} ms", f"{first:.2f} ms of the first {PART}",
            f"{last / first:.2f}×", target, last <= RATIO_MAX * first),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
