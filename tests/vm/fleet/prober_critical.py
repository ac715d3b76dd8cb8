"""A critical agent that says where it runs."""

from pathlib import Path

from sutazai.runtime import Agent, Context

agent = Agent("prober-critical")


@agent.skill
def where(ctx: Context) -> str:
    """Say which cores this instance may use."""
    return Path("/proc/self/status").read_text().partition("Cpus_allowed_list:")[2].split()[0]
