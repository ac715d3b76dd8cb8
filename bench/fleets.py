"""Why it exists: the manifests of the benchmarks, written out so that a reader sees what was measured."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

SLEEPER = '''
"""Sleeps as long as it is told, and says when its first line ran."""
import time

from sutazai.runtime import Agent

agent = Agent("{name}")


@agent.skill
def work(seconds: float = 0.0) -> dict[str, int]:
    """Sleep for some seconds and return the time of the first line."""
    first_line_ns = time.time_ns()
    time.sleep(seconds)
    return {{"first_line_ns": first_line_ns}}
'''


def sleepers(folder: Path, count: int, keep: str) -> str:
    """Write agents that only sleep, and the manifest of a fleet of them; no model, no service."""
    lines = []
    for index in range(count):
        name = f"sleeper-{index}"
        path = folder / f"sleeper_{index}.py"
        path.write_text(SLEEPER.format(name=name))
        lines.append(f"  {name}: {{file: {path}, port: {10480 - index}, pool: standard, memory: 64MB, keep: {keep}}}")
    return "\n".join(
        [
            "fleet: {fleet}",
            "port_offset: {offset}",
            "memory_pools:",
            f"  standard: {{instance_limit: {count}}}",
            "agents:",
            *lines,
            "",
        ]
    )


def demo() -> str:
    """Take the demonstration's fleet, under another name and on other ports."""
    text = (ROOT / "fleets/demo.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("fleet:", "port_offset:"))]
    return "\n".join(["fleet: {fleet}", "port_offset: {offset}", *lines, ""])
