"""Why it exists: an agent asks for powers, and who may grant them is one rule.

The manifest of an agent that comes with sutazai is trusted. A user's own agent gets a power only when the fleet's
manifest grants it too, so that dropping a folder into a fleet never gives it a lever that nobody wrote down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.powers import POWERS
from sutazai.spec.section import one_of

if TYPE_CHECKING:
    from sutazai.spec.model import Agent
    from sutazai.spec.section import Section

KEY = "powers"


def asked(section: Section) -> tuple[str, ...]:
    """Read ``powers``: known names, each once."""
    names: list[str] = []
    for item in section.scalars(KEY):
        if item.text not in POWERS:
            section.mistakes.add(
                f"{section.name(KEY)}: there is no power {item.text!r}", item.place, one_of(item.text, POWERS)
            )
        elif item.text not in names:
            names.append(item.text)
    return tuple(names)


def granted(section: Section, base: Agent) -> tuple[str, ...]:
    """Apply what the fleet's manifest says about an agent's powers.

    Args:
        section: of the agent in the fleet's manifest.
        base: the agent as its own manifest describes it.
    """
    if section.node(KEY) is None:
        if base.origin == "folder" and base.powers:
            wanted = ", ".join(base.powers)
            section.mistakes.add(
                f"agent {base.name} asks for the power {wanted}, and this manifest does not grant it",
                base.place,
                f"write {KEY}: [{wanted}] below agents.{base.name}, or {KEY}: [] to run it without",
            )
        return base.powers
    names = asked(section)
    beyond = [name for name in names if name not in base.powers] if base.origin != "file" else []
    if beyond:
        section.add(KEY, f"{base.name} does not ask for {', '.join(beyond)}", "its own manifest.toml must name it too")
    return tuple(name for name in names if name not in beyond)
