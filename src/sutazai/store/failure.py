"""Why it exists: why a turn failed, and what is to be done in the place of a task that ends badly, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn failed.

    Attributes:
        code: stable name.
        message: for a person.
        retryable: whether the same input may succeed later.
        detail: JSON value, may be None.
    """

    code: str
    message: str
    retryable: bool = True
    detail: Any = None

    def as_json(self) -> dict[str, Any]:
        """Write it as callers see it."""
        found = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.detail is not None:
            found["detail"] = self.detail
        return found


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is done in the place of a task that fails, is dead, expires or is refused; a cancelled one is not replaced.

    Attributes:
        value: JSON text of the result that it then has; None when another agent is asked.
        agent: who is asked instead; empty for the value.
        skill: of that agent.
        input: JSON text; None for the task's own.
        deadline_ms: from then on, at most what its parent has left.
        attempts_max: own failures of that agent until the task is dead.
    """

    value: str | None = None
    agent: str = ""
    skill: str = ""
    input: str | None = None
    deadline_ms: int = 0
    attempts_max: int = 1


@dataclass(frozen=True, slots=True)
class FallBack:
    """The circuit of an agent has opened: its queued tasks that have a fallback take it. Reply: where to go on, or 0.

    Attributes:
        agent: whose circuit.
        error: why.
        after: place in the order of acceptance from which on it looks.
        limit: tasks with a fallback that one operation looks at.
    """

    agent: str
    error: Failure
    after: int = 0
    limit: int = 500
