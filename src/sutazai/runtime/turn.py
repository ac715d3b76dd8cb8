"""Why it exists: one execution of a task is a value: what the broker sent, and what goes back as one commit."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from sutazai.errors import ProtocolError
from sutazai.runtime.flow import LargeResult, Load, Result


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """The task that a skill works for.

    Attributes:
        id: of the task; the idempotency key for effects outside of the fleet.
        agent: who works.
        skill: what for.
        session: empty for none.
        attempt: 1 in the first try.
        parent: id of the task whose turn made this one; empty for none.
        priority: 0 is the most urgent, 9 the least.
        step: name of the step that runs, empty in the first turn.
        created_ms: when it was accepted, on the broker's clock.
    """

    id: str
    agent: str
    skill: str
    session: str = ""
    attempt: int = 1
    parent: str = ""
    priority: int = 5
    step: str = ""
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What the broker sent.

    Attributes:
        task: who and what.
        input: as JSON.
        fence: token of this turn; the commit names it.
        deadline_s: on this process's monotonic clock.
        lease_ms: how long the broker waits for a heartbeat.
        results: of the calls that the last turn waited for.
        carry: what that wait carried.
        state: of the session; ``None`` without a session.
        state_version: the version that ``state`` is; 0 without a session.
    """

    task: TaskInfo
    input: Any
    fence: int
    deadline_s: float
    lease_ms: int
    results: list[Result] = field(default_factory=list)
    carry: Any = None
    state: dict[str, Any] | None = None
    state_version: int = 0

    @property
    def held(self) -> dict[str, Any]:
        """How a reconnecting instance says that it still has this turn."""
        return {"task": self.task.id, "fence": self.fence}


def read_turn(message: dict[str, Any], load: Load | None = None) -> Turn:
    """Read a ``turn`` message.

    Args:
        message: from the broker.
        load: reads a result that lies in a file; without it such a result cannot be read.

    Raises:
        ProtocolError: a part of the task is missing.
    """
    task = message["task"]
    try:
        session = task.get("session") or ""
        return Turn(
            task=TaskInfo(
                id=task["id"],
                agent=task["agent"],
                skill=task["skill"],
                session=session,
                attempt=task.get("attempt", 1),
                parent=task.get("parent") or "",
                priority=task.get("priority", 5),
                step=task.get("step") or "",
                created_ms=task.get("created_ms") or 0,
            ),
            input=task.get("input"),
            fence=message["fence"],
            deadline_s=time.monotonic() + message["deadline_left_ms"] / 1_000,
            lease_ms=message["lease_ms"],
            results=[result_of(entry, load) for entry in task.get("results") or []],
            carry=task.get("carry"),
            state=(message.get("state") or {}) if session else None,
            state_version=message.get("state_version") or 0,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"a turn lacks a part of its task: {error}") from error


def result_of(entry: dict[str, Any], load: Load | None = None) -> Result:
    """Read the end of a task as the broker writes it; a result in a file is loaded when somebody looks at it."""
    if entry.get("result_ref") and load is not None:
        return LargeResult(entry, load)
    return Result(
        task=entry["task"],
        agent=entry["agent"],
        skill=entry["skill"],
        status=entry["status"],
        result=entry.get("result"),
        error=entry.get("error"),
        fallback=entry.get("fallback"),
    )


@dataclass(slots=True)
class Commit:
    """What goes back, before it is a message.

    Attributes:
        outcome: ``result``, ``wait``, ``checkpoint`` or ``failed``.
        result: of the task, as JSON.
        large: the result as JSON text when it is too large for a message: it is uploaded before the commit.
        error: ``{code, message, retryable, detail}``.
        wait: ``{tasks, then, carry, count}``.
        state: new state of the session; ``None`` leaves it.
        emits: tasks to store with the commit.
        keeps: values to store with the commit, by name.
    """

    outcome: str
    result: Any = None
    error: dict[str, Any] | None = None
    wait: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    emits: list[dict[str, Any]] = field(default_factory=list)
    keeps: dict[str, Any] = field(default_factory=dict)
    large: bytes = b""

    def reference(self) -> dict[str, Any] | None:
        """Name the result that is uploaded; None when it is in the message."""
        if not self.large:
            return None
        return {"bytes": len(self.large), "digest": f"sha256:{hashlib.sha256(self.large).hexdigest()}"}

    def message(self, turn: Turn, state_version: int, *, pull: bool) -> dict[str, Any]:
        """Write it as a ``commit`` message without its ``id``."""
        return {
            "t": "commit",
            "task": turn.task.id,
            "fence": turn.fence,
            "outcome": self.outcome,
            "result": self.result,
            "error": self.error,
            "wait": self.wait,
            "state": self.state,
            "state_version": state_version,
            "emits": self.emits,
            "effects": [],
            "keeps": self.keeps or None,
            "pull": pull,
            **({"result_ref": self.reference()} if self.large else {}),
        }
