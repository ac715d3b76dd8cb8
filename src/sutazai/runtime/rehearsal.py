"""Why it exists: a forked process shares its pages until it writes to them, and pays for each first write.

Counting a reference is a write, so the first model that is built, the first turn and the first frame after a fork cost
twice what the second cost. A spare has time: it goes through all of it once, with an agent that does nothing, before
its order comes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sutazai.runtime.context import Context, Surroundings
from sutazai.runtime.execute import execute
from sutazai.runtime.log import Log
from sutazai.runtime.skill import Agent
from sutazai.runtime.turn import read_turn
from sutazai.wire.frames import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable

_TURN = {
    "t": "turn",
    "task": {"id": "t_rehearsal", "agent": "rehearsal", "skill": "nothing", "input": {"text": "ä", "number": 1.5}},
    "fence": 1,
    "lease_ms": 1,
    "deadline_left_ms": 1,
    "state": None,
    "state_version": 0,
}


def rehearse() -> None:
    """Declare an agent, run one turn of it, encode its commit; never fails, leaves nothing behind."""
    with contextlib.suppress(Exception):
        agent = Agent("rehearsal")

        @agent.skill
        def nothing(text: str, ctx: Context, number: float = 0.0) -> dict[str, Any]:
            """Do nothing."""
            return {"text": text, "number": number, "task": ctx.task.id}

        message, _ = next(iter(Decoder().feed(encode(_TURN))))
        turn = read_turn(message)
        commit = execute(agent, turn, Context(turn, Surroundings(log=Log({}))), _run)
        encode({**commit.message(turn, 0, pull=True), "id": 1})


def _run(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return function(**arguments)
