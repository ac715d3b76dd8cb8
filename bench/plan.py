"""Why it exists: a plan must be quick enough to ask for on every change, also for a fleet of ten thousand agents.

Prints the median time of ``plan.make`` (the decision alone) and of ``spec.load`` (reading the YAML) for a fleet of
10 000 agents and 200 services, and of both together with rendering. Target: the decision takes less than a second.

Run: ``python bench/plan.py [--agents N] [--runs N]``.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sutazai import plan, spec
from sutazai.plan import render

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
TARGET_MS = 1_000.0


def manifest_text(agents: int, services: int) -> str:
    """Write a fleet whose agents use the whole range of keys."""
    head = (
        "fleet: bench\n"
        "port_ranges:\n  infrastructure: 10000-10199\n  monitoring: 10200-10299\n"
        "  agents: 10300-25000\n  reserved: 25001-26000\n"
        "cpu_sets:\n  front: {cores: 0-3, members: [critical]}\n  back: {cores: 4-11, members: [standard]}\n"
        "runtime_pools: {python: {workers: 8, families: [base]}}\n"
        "services:\n"
    )
    lines = [head]
    for index in range(services):
        after = f", after: [s{index - 1}]" if index % 10 else ""
        lines.append(
            f"  s{index}: {{command: sleep 1, memory: 32MB, start_peak: 16MB, port: {25001 + index}{after}}}\n"
        )
    lines.append("agents:\n")
    for index in range(agents):
        pool = "critical" if index % 10 == 0 else "standard"
        port = 10600 + index
        lines.append(f"  agent-{index}: {{file: hello.py, port: {port}, pool: {pool}, memory: 64MB, envelope: 32MB}}\n")
    return "".join(lines)


def median_ms(runs: int, work: Callable[[], T]) -> tuple[float, T]:
    """Measure some runs after a first one that does not count."""
    result = work()
    times = []
    for _ in range(runs):
        gc.collect()
        begun = time.perf_counter()
        result = work()
        times.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(times), result


def main() -> int:
    """Measure and print; exit code 1 when the target is missed or the fleet does not fit."""
    parser = argparse.ArgumentParser(description="Time the planner.")
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    facts = plan.parse_host("12c,29.38GB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sutazai.yaml"
        path.write_text(manifest_text(options.agents, options.services))
        (Path(folder) / "hello.py").write_text("")
        load_ms, manifest = median_ms(min(options.runs, 3), lambda: spec.load(path))
    plan_ms, result = median_ms(options.runs, lambda: plan.make(manifest, facts))
    render_ms, _ = median_ms(options.runs, lambda: show(result))
    numbers = {
        "agents": len(result.agents),
        "services": options.services,
        "fits": result.fits,
        "plan_ms": round(plan_ms, 1),
        "load_ms": round(load_ms, 1),
        "render_ms": round(render_ms, 1),
        "target_ms": TARGET_MS,
    }
    if options.json:
        print(json.dumps(numbers))
    else:
        print(f"{numbers['agents']} agents, {options.services} services; median of {options.runs} runs")
        print(f"  plan    {plan_ms:8.1f} ms   (target < {TARGET_MS:.0f} ms)")
        print(f"  load    {load_ms:8.1f} ms   reading and checking the YAML")
        print(f"  render  {render_ms:8.1f} ms   the table")
        for finding in result.errors:
            print(f"  ✗ {finding}")
    return 0 if result.fits and plan_ms < TARGET_MS else 1


def show(result: plan.Plan) -> str:
    """Render to text."""
    from rich.console import Console

    out = StringIO()
    Console(file=out, width=100).print(render.render(result))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
