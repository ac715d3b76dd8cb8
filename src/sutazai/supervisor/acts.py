"""Why it exists: what agents do to the fleet is written down where everybody sees it, and only one works at a time.

The last acts stand in ``status``, each with its number and its time; ``control`` makes events of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.errors import ProtocolError
from sutazai.ids import new_id
from sutazai.powers import POWERS
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from sutazai.clock import Clock
    from sutazai.supervisor.lines import Request

ACTS_KEPT = 20
_TEXT_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that was done.

    Attributes:
        id: unique.
        at_wall_ms: when it was done.
        action: name of the power.
        subject: process or agent; empty for the whole fleet.
        agent: who asked; empty for a person.
        task: for which it was asked.
        text: what was done, with its numbers.
        numbers: bytes before and after, and others of the action.
    """

    id: str
    at_wall_ms: int
    action: str
    subject: str
    agent: str
    task: str
    text: str
    numbers: dict[str, int] = field(default_factory=dict)


class ActLog:
    """The last acts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._acts: deque[Act] = deque(maxlen=ACTS_KEPT)

    def add(self, request: Request, text: str, **numbers: int) -> None:
        """Write down what a request has done."""
        body = request.body
        agent, task = (str(body.get(name) or "")[:_TEXT_CHARACTERS_MAX] for name in ("agent", "task"))
        act = Act(
            new_id("a"), self._clock.wall_ms(), request.op, str(body.get("subject") or ""), agent, task, text, numbers
        )
        self._acts.append(act)
        say(f"{act.action} for {agent or 'a person'}{f' ({task})' if task else ''}: {text}")

    def to_json(self) -> list[dict[str, Any]]:
        """As they stand in ``status``, oldest first."""
        return [asdict(act) for act in self._acts]


def arguments_of(request: Request) -> dict[str, str | int | bool]:
    """Check the arguments of an action.

    Raises:
        ProtocolError: one is wrong.
    """
    power = POWERS[request.op]
    given = {name: request.body[name] for name in power.arguments if name in request.body}
    try:
        return power.read(given)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
