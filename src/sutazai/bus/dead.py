"""Why it exists: somebody looks at dead letters, mends the cause, and has them done again or puts them aside.

Each letter of a request is answered for itself: one that cannot be replayed does not keep the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.bus.watch import error_message
from sutazai.errors import NotFoundError, RefusedError
from sutazai.store.letters import DeadLetters, Discard, Replay

if TYPE_CHECKING:
    from sutazai.bus import messages
    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import Session
    from sutazai.store.model import Outcome


class DeadDesk:
    """Serves ``dead``, ``replay`` and ``discard``.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def show(self, session: Session, request: messages.Dead) -> None:
        """List dead letters."""

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                session.reply(request.id, error_message(result))
            elif not result.reply and request.agent and (problem := self._broker.directory.unknown(request.agent)):
                session.reply(request.id, error_message(NotFoundError(problem)))
            else:
                session.reply(request.id, {"t": "list", "tasks": result.reply})

        operation = DeadLetters(request.agent, request.handled, request.limit)
        self._broker.journal.enqueue(operation, done)

    def replay(self, session: Session, request: messages.Letters) -> None:
        """Do each of them again, when its agent and skill are still there."""
        answer = _Answer(session, request)
        for place, task in enumerate(request.tasks):
            self._look(answer, place, task)

    def _look(self, answer: _Answer, place: int, task: str) -> None:
        """Read whose it is first: the agent of a task never changes."""
        broker = self._broker

        def found(result: Outcome | RefusedError) -> None:
            try:
                if isinstance(result, RefusedError):
                    raise result
                letter = result.reply[0]
                broker.directory.check(letter["agent"], letter["skill"])
            except RefusedError as error:
                answer.give(place, {"error": _error(error)})
                return
            operation = Replay(
                task, answer.by, broker.directory.deadline_ms(letter["agent"]), broker.directory.queue(letter["agent"])
            )
            broker.journal.enqueue(operation, done)

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                answer.give(place, {"error": _error(result)})
                return
            accepted = result.reply
            broker.meters.totals.accepted += not accepted.duplicate
            answer.give(place, {"replay": accepted.id, "status": accepted.status, "duplicate": accepted.duplicate})

        broker.journal.enqueue(DeadLetters(None, handled=True, limit=1, task=task), found)

    def discard(self, session: Session, request: messages.Letters) -> None:
        """Put each of them aside."""
        answer = _Answer(session, request)

        def done(place: int, result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                answer.give(place, {"error": _error(result)})
            else:
                answer.give(place, {"duplicate": result.reply})

        for place, task in enumerate(request.tasks):
            operation = Discard(task, answer.by)
            self._broker.journal.enqueue(operation, lambda result, place=place: done(place, result))  # type: ignore[misc]


class _Answer:
    """Gathers what became of each letter, and answers with the last one."""

    def __init__(self, session: Session, request: messages.Letters) -> None:
        self._session, self._request = session, request
        self._given: dict[int, dict[str, Any]] = {}
        self.by = request.by or session.name or "a client"

    def give(self, place: int, what: dict[str, Any]) -> None:
        """This became of the letter at this place of the request."""
        self._given[place] = {"task": self._request.tasks[place], **what}
        if len(self._given) == len(self._request.tasks):
            tasks = [self._given[each] for each in range(len(self._given))]
            self._session.reply(self._request.id, {"t": "handled", "tasks": tasks})


def _error(error: RefusedError) -> dict[str, Any]:
    return {"code": error.code, "detail": error.detail}
