"""Why it exists: a turn hands work on as data: calls to wait for, the step that goes on, the results that come back.

Nothing here is sent by itself. A turn returns a ``Wait``; it is stored when the turn commits, and the step runs in a
new turn when all its calls are done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sutazai.errors import CalleeFailedError
from sutazai.wire.messages import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
#: Reads the result of a task, given its reference.
Load = Callable[[str, dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another agent that is asked when a call ends badly, or when the circuit of its agent is open.

    Attributes:
        agent: who is asked instead.
        skill: what for.
        input: of that skill; ``None`` for the call's own.
        deadline_s: seconds from then on, at most what the caller has left; 0 for that agent's default.
    """

    agent: str
    skill: str
    input: dict[str, Any] | None = None
    deadline_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A task that this turn will hand to an agent; made by ``Context.call``.

    Attributes:
        id: of the task; the same when the turn is executed again.
        agent: who is asked.
        skill: what for.
        input: as JSON.
        priority: 0 is the most urgent, 9 the least; ``None`` takes over this task's.
        session: of the other agent; empty for none.
        deadline_ms: from the commit on; 0 for the agent's default.
        delay_ms: not before this time after the commit.
        idempotency_key: beyond the id; empty for none.
        attempts_max: own failures until it is dead; 0 for the agent's default.
        label: its name in a history, for people; empty for none.
        idempotency_window_ms: for so long the key names this task; 0 for as long as it is kept.
        fallback: ``{value}`` or ``{agent, skill, …}``; ``None`` for none.
        when_open: ``refuse``: it fails at once while the circuit of its agent is open; empty: it waits.
    """

    id: str
    agent: str
    skill: str
    input: dict[str, Any]
    priority: int | None = None
    session: str = ""
    deadline_ms: int = 0
    delay_ms: int = 0
    idempotency_key: str = ""
    attempts_max: int = 0
    label: str = ""
    idempotency_window_ms: int = 0
    fallback: dict[str, Any] | None = None
    when_open: str = ""

    def wire(self, default_priority: int) -> dict[str, Any]:
        """Write it as an entry of a commit's ``emits``."""
        return {
            "id": self.id,
            "agent": self.agent,
            "skill": self.skill,
            "input": self.input,
            "priority": default_priority if self.priority is None else self.priority,
            "session": self.session or None,
            "delay_ms": self.delay_ms,
            "deadline_ms": self.deadline_ms or None,
            "idempotency_key": self.idempotency_key or None,
            "attempts_max": self.attempts_max or None,
            "label": self.label or None,
            "idempotency_window_ms": self.idempotency_window_ms or None,
            **({} if self.fallback is None else {"fallback": self.fallback}),
            **({"when_open": self.when_open} if self.when_open else {}),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended.

    Attributes:
        task: its id.
        agent: who was asked.
        skill: what for.
        status: ``succeeded``, or how it failed: ``failed``, ``dead``, ``cancelled``, ``expired``; in a wait for the
            first of several also ``queued``, ``leased``, ``waiting``.
        result: what the skill returned, as JSON; ``None`` when it failed.
        error: ``{code, message, retryable, detail}`` when it failed.
        fallback: ``None``, or what happened before its fallback was taken: ``{status, error, instead_of, by}``.
    """

    task: str
    agent: str
    skill: str
    status: str
    result: Any = None
    error: dict[str, Any] | None = None
    fallback: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded, and its result is here: one that is too large for this turn has an error."""
        return self.status == "succeeded" and self.error is None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status in TERMINAL

    def require(self) -> Any:
        """Give the result.

        Raises:
            CalleeFailedError: the call failed; says which and why.
        """
        if self.ok:
            return self.result
        why = (self.error or {}).get("message") or self.status
        raise CalleeFailedError(f"{self.agent}.{self.skill} {self.status}: {why}")


class LargeResult(Result):
    """How a call ended whose result lies in a file: it is read when it is looked at, and kept.

    Only the thread that runs the skill may look at it. It takes the memory that it takes: of the instance.
    """

    __slots__ = ("_load", "_value")
    _load: Callable[[], Any]
    _value: Any

    def __init__(self, entry: dict[str, Any], load: Load) -> None:
        """Take the end of a task as the broker writes it, and what reads its file."""
        for name in ("task", "agent", "skill", "status", "error", "fallback"):
            object.__setattr__(self, name, entry.get(name))
        object.__setattr__(self, "_load", lambda: load(entry["task"], entry["result_ref"]))

    @property
    def result(self) -> Any:
        """What the skill returned, as JSON.

        Raises:
            UnavailableError: the broker is away for too long, or the file is gone.
        """
        if not hasattr(self, "_value"):
            object.__setattr__(self, "_value", self._load())
        return self._value


@dataclass(frozen=True, slots=True)
class Wait(Generic[T]):
    """What a skill or step returns to wait for other agents: ``return Wait(calls, then=collect, carry={…})``.

    The turn commits and frees its memory; ``then`` runs in a new turn when every call is done, failed ones too.

    Attributes:
        calls: from ``Context.call``; their order is the order of the results.
        then: a function marked with ``@agent.step``, or its name.
        carry: handed to the step as it is; JSON.
        count: go on when so many of them are done; 0 for all.
        running: ids of tasks that this one emitted before and that run on; their results come first.
    """

    calls: Sequence[Call]
    then: Callable[..., Any] | str
    carry: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    running: Sequence[str] = ()

    @property
    def step(self) -> str:
        """Name of the step that goes on."""
        return self.then if isinstance(self.then, str) else self.then.__name__
