"""Why it exists: an agent that hands work on must be able to say how it stands, and to call it off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.errors import NonRetryableError
from sutazai.wire.messages import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

LIST_MAX = 100


@dataclass(frozen=True, slots=True)
class OwnTask:
    """A task of the agent, or one that came out of it; without its input and result.

    Attributes:
        id: of the task.
        agent: who works.
        skill: what for.
        status: ``queued``, ``leased``, ``waiting``, or how it ended.
        parent: whose turn made it; ``None`` for the first.
        step: where it goes on.
        attempt: of the running or next turn.
        created_wall_ms: when it was accepted.
        finished_wall_ms: when it ended; 0 while it is open.
        error: ``{code, message, …}`` of an end without success.
        progress: ``{fraction, text}`` of the running turn.
        why: it waits in its queue; empty when nothing is in the way.
        label: its name in a history, for people.
        starts: turns that began; only in a ``tree``.
        commits: of them, those that left a result, or a wait for others.
        lost: of them, those that left nothing: their instance or the broker died, or they fell silent.
        fallback: what happened before its fallback was taken: ``{status, error, instead_of, by}``; empty for none.
    """

    id: str
    agent: str
    skill: str
    status: str
    parent: str | None = None
    step: str = ""
    attempt: int = 0
    created_wall_ms: int = 0
    finished_wall_ms: int = 0
    error: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    label: str = ""
    starts: int = 0
    commits: int = 0
    lost: int = 0
    fallback: dict[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether its status is never left."""
        return self.status in TERMINAL


class OwnTasks:
    """What ``ctx.tasks`` is. Each call is one question to the broker; only in the thread that runs the skill.

    Args:
        ask: sends ``{do, of, …}`` and gives the answer's tasks; ``None`` where there is no broker.
    """

    def __init__(self, ask: Callable[[dict[str, Any]], list[dict[str, Any]]] | None) -> None:
        self._ask = ask

    def asked(self, limit: int = 20) -> list[OwnTask]:
        """List tasks that this agent was asked for, newest first, this one among them.

        Args:
            limit: 1 to 100.
        """
        return self._tasks({"do": "list", "limit": min(LIST_MAX, max(1, limit))})

    def tree(self, task: str) -> list[OwnTask]:
        """Read a task that this agent was asked for, with all that came out of it, parents before children.

        Raises:
            NonRetryableError: there is no such task, or it is another agent's.
        """
        return self._tasks({"do": "tree", "of": task})

    def cancel(self, task: str, reason: str = "") -> list[OwnTask]:
        """Cancel a task that this agent was asked for or has emitted, with all that came out of it; at once.

        What is over stays as it is, and doing it again changes nothing. A running turn is told to stop, and its
        instance is ended when it does not.

        Args:
            task: its id.
            reason: for its history.

        Returns:
            The tree as it is then.

        Raises:
            NonRetryableError: there is no such task, it is another agent's, or this turn works for it.
        """
        return self._tasks({"do": "cancel", "of": task, "reason": reason})

    def _tasks(self, fields: dict[str, Any]) -> list[OwnTask]:
        if self._ask is None:
            raise NonRetryableError("there is no broker here to ask for tasks")
        names = OwnTask.__dataclass_fields__
        found = []
        for entry in self._ask(fields):
            known = {name: entry[name] for name in names if entry.get(name) is not None}
            found.append(OwnTask(**known))
        return found
