"""An agent that says where it runs, and runs into each of its limits when it is asked to."""

from pathlib import Path

from sutazai.runtime import Agent, Context

agent = Agent("prober")


def place() -> dict[str, str]:
    """Read from the kernel which cores this process may use, and its cgroup."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    cgroup = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    return {"cores": status["Cpus_allowed_list"], "cgroup": cgroup, "uid": status["Uid"].split()[0]}


@agent.skill
def where(ctx: Context) -> dict[str, str]:
    """Say where this instance runs."""
    return place()


@agent.skill
def eat(megabytes: int, ctx: Context) -> int:
    """Take memory and touch every page of it."""
    return sum(bytearray(b"x" * (megabytes << 20))[:: 1 << 12])


@agent.skill
def work(number: int, ctx: Context) -> int:
    """Do a little, and say that it is done."""
    return sum(range(number % 1_000))
