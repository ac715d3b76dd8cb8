"""An agent that wants two cores, and has a quota of half a one."""

import os
import time
from pathlib import Path

from sutazai.runtime import Agent, Context

agent = Agent("prober-slow")


@agent.skill
def burn(seconds: float, ctx: Context) -> dict[str, float]:
    """Compute in two processes, and say what the kernel gave: seconds of a core and of the clock, stops."""
    folder = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")
    before, started = _numbers(folder), time.monotonic()
    until = started + seconds
    helper = os.fork()
    while time.monotonic() < until:
        pass
    if helper == 0:
        os._exit(0)
    os.waitpid(helper, 0)
    after = _numbers(folder)
    return {
        "cpu_s": (after["usage_usec"] - before["usage_usec"]) / 1e6,
        "wall_s": time.monotonic() - started,
        "throttled": after["nr_throttled"] - before["nr_throttled"],
    }


@agent.skill
def wait(seconds: float, ctx: Context) -> float:
    """Be at work for a while."""
    time.sleep(seconds)
    return seconds


def _numbers(folder: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in (folder / "cpu.stat").read_text().splitlines())}
