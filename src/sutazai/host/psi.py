"""Why it exists: pressure stall information says how long work waited for memory, CPU or IO: the truth about overload.

Format: https://docs.kernel.org/accounting/psi.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Resource = Literal["memory", "cpu", "io"]
RESOURCES: tuple[Resource, ...] = ("memory", "cpu", "io")


@dataclass(frozen=True, slots=True)
class Stall:
    """One line: shares of time, as per cent 0–100, over the last 10, 60 and 300 seconds.

    Attributes:
        avg10: per cent of the last 10 s.
        avg60: per cent of the last 60 s.
        avg300: per cent of the last 300 s.
        total_usec: all waiting since boot (or since the group was made), microseconds.
    """

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_usec: int = 0


NO_STALL = Stall()


@dataclass(frozen=True, slots=True)
class Pressure:
    """Stalls of a resource.

    Attributes:
        some: at least one task waited.
        full: all tasks that were not idle waited.
    """

    some: Stall = NO_STALL
    full: Stall = NO_STALL


def parse(text: str) -> Pressure | None:
    """Read the text of a pressure file.

    Returns:
        None when it is empty or not of this format.
    """
    stalls = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        try:
            stalls[kind] = Stall(
                float(values["avg10"]), float(values["avg60"]), float(values["avg300"]), int(values["total"])
            )
        except (KeyError, ValueError):
            return None
    if "some" not in stalls:
        return None
    return Pressure(stalls["some"], stalls.get("full", NO_STALL))


def read(resource: Resource, proc: Path = Path("/proc")) -> Pressure | None:
    """Read the machine's pressure; None when this kernel has no PSI or it is switched off."""
    try:
        return parse((proc / "pressure" / resource).read_text())
    except OSError:
        return None
