"""Why it exists: an agent may look after the work that it was asked for and that it handed on, and nobody else's.

A turn that holds may list the tasks of its own agent, read one with its descendants, and cancel one with them. Inputs
and results are not shown: they were given to others. The agent of a task never changes, so reading before cancelling
leaves no gap. Cancelling is at once, not with the commit, and doing it twice is doing it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.bus.watch import error_message
from sutazai.errors import FencedError, RefusedError
from sutazai.limits import TREE_TASKS_MAX
from sutazai.store.model import Cancel, List, Outcome, Recall, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.broker import Broker
    from sutazai.bus.messages import Own
    from sutazai.bus.sessions import Instance, Session

#: What an agent sees of a task.
SHOWN = (
    "id", "agent", "skill", "status", "parent", "step", "attempt", "attempts_max", "turns_ended", "created_wall_ms",
    "finished_wall_ms", "deadline_left_ms", "error", "progress", "why", "label", "fallback", "starts", "commits",
    "lost",
)  # fmt: skip
#: Outcomes of turns that left something behind.
COMMITTED = frozenset({"result", "wait", "approve", "deny", "signal"})
REASON_DEFAULT = "cancelled by its own agent"


class OwnDesk:
    """Serves ``own``.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def own(self, session: Session, instance: Instance, request: Own) -> None:
        """Answer with tasks of the instance's agent.

        Raises:
            FencedError: the turn belongs to somebody else now.
            RefusedError: the task's name is missing.
        """
        lease = self._broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is None or lease.ending:
            raise FencedError("only a turn that holds may ask")
        self._broker.leases.renew(lease, self._broker.clock.now_ms())
        if request.do == "list":
            operation = List(None, instance.agent, request.limit)
            self._then(session, request, operation, lambda tasks: self._answer(session, request, tasks))
            return
        if not request.of:
            raise RefusedError("say which task is meant")

        def found(tasks: list[dict[str, Any]]) -> None:
            self._found(session, instance, request, tasks)

        self._then(session, request, _tree(request.of), found)

    def _foreign(self, session: Session, instance: Instance, request: Own, tasks: list[dict[str, Any]]) -> None:
        """Go on with another agent's task when one of the own agent's tasks emitted it."""
        operation = Recall(instance.agent, request.task, (), (request.of,))

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                error = RefusedError(f"the task {request.of!r} is not one of {instance.agent}, nor made by one")
                session.reply(request.id, error_message(error))
            else:
                self._found(session, instance, request, tasks, told=True)

        self._broker.journal.enqueue(operation, done)

    def _found(
        self, session: Session, instance: Instance, request: Own, tasks: list[dict[str, Any]], *, told: bool = False
    ) -> None:
        """Go on with a task that exists."""
        if tasks[0]["agent"] != instance.agent and not told:
            self._foreign(session, instance, request, tasks)
        elif request.do == "tree":
            self._answer(session, request, tasks)
        elif any(task["id"] == request.task for task in tasks):
            error = RefusedError(f"{request.of!r} is what this turn works for: return or raise to end it")
            session.reply(request.id, error_message(error))
        else:
            reason = request.reason or REASON_DEFAULT
            again = _tree(request.of)
            self._then(
                session,
                request,
                Cancel(request.of, reason),
                lambda _: self._then(session, request, again, lambda after: self._answer(session, request, after)),
            )

    def _then(
        self, session: Session, request: Own, operation: List | Tree | Cancel, go_on: Callable[[Any], None]
    ) -> None:
        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                session.reply(request.id, error_message(result))
            else:
                go_on(result.reply)

        self._broker.journal.enqueue(operation, done)

    def _answer(self, session: Session, request: Own, tasks: list[dict[str, Any]]) -> None:
        shown = []
        for task in tasks:
            full = self._broker.with_progress(task)
            error = full.get("error")
            turns = full.get("turns") or ()
            full["starts"], full["commits"] = len(turns), sum(turn["outcome"] in COMMITTED for turn in turns)
            full["lost"] = sum(turn["outcome"] == "lost" for turn in turns)
            full["error"] = {name: error[name] for name in ("code", "message") if name in error} if error else None
            shown.append({name: full.get(name) for name in SHOWN})
        session.reply(request.id, {"t": "owned", "tasks": shown})


def _tree(task: str) -> Tree:
    return Tree(task, TREE_TASKS_MAX, payloads=False)
