"""Why it exists: who waits for many tasks wants how each ended, and neither its input nor its forty columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sutazai.limits import OUTCOMES_READ_BYTES


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Read how tasks ended. Reply: an ``Ended``; refused when there is none of a name.

    Attributes:
        tasks: identifiers.
        room: after so many characters of results the rest is left for another read.
    """

    tasks: tuple[str, ...]
    room: int = OUTCOMES_READ_BYTES


@dataclass(frozen=True, slots=True)
class Ended:
    """How tasks ended.

    Attributes:
        tasks: those that are terminal: ``{task, agent, skill, status, result, result_ref,
            error, fallback}``, the result as JSON text; one that lies in a file is only named.
        left: identifiers that were not looked at, for want of room.
    """

    tasks: list[dict[str, Any]]
    left: tuple[str, ...] = ()
