"""Why it exists: what callers may ask: take tasks, read them, wait for them, watch them, cancel them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.bus import messages
from sutazai.bus.dead import DeadDesk
from sutazai.bus.watch import error_message
from sutazai.errors import InvalidInputError, NotFoundError, QueueFullError, RefusedError
from sutazai.ids import new_id
from sutazai.limits import (
    OPERATIONS_PENDING_MAX,
    PRIORITY_DEFAULT,
    TASK_INPUT_BYTES_MAX,
    TASK_RESULT_BYTES_MAX,
    TREE_TASKS_MAX,
)
from sutazai.store.failure import Fallback
from sutazai.store.model import Cancel, Get, List, NewTask, Outcome, ReadState, Resolve, Submit, Tree, Waiting
from sutazai.store.times import Schedules

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import Session
    from sutazai.store.times import Seen


def new_task(broker: Broker, spec: messages.TaskSpec, *, priority: int = PRIORITY_DEFAULT) -> NewTask:
    """Make a task out of what was asked for, with the defaults of its agent.

    Raises:
        NotFoundError: no such agent or skill.
        InvalidInputError: the input is too large, or a window has no key.
    """
    broker.directory.check(spec.agent, spec.skill)
    data = _bounded(messages.to_json(spec.input), "input", TASK_INPUT_BYTES_MAX)
    if spec.idempotency_window_ms and spec.idempotency_key is None:
        raise InvalidInputError("idempotency_window_ms is the time of an idempotency_key: give one, or leave it out")
    return NewTask(
        id=spec.id or new_id("t"),
        agent=spec.agent,
        skill=spec.skill,
        input=data,
        priority=priority if spec.priority is None else spec.priority,
        deadline_ms=spec.deadline_ms or broker.directory.deadline_ms(spec.agent),
        attempts_max=spec.attempts_max or broker.directory.attempts_max(spec.agent),
        session=spec.session,
        delay_ms=spec.delay_ms or 0,
        idempotency_key=spec.idempotency_key,
        key_window_ms=spec.idempotency_window_ms or 0,
        named=spec.id is not None,
        queue=broker.directory.queue(spec.agent),
        label=spec.label,
        fallback=None if spec.fallback is None else _fallback(broker, spec, spec.fallback),
    )


def _bounded(data: str, what: str, most: int) -> str:
    if len(data) > most // 4 and len(data.encode()) > most:
        raise InvalidInputError(f"the {what} is above {most} bytes: put it into a file, send its path")
    return data


def _fallback(broker: Broker, spec: messages.TaskSpec, given: messages.FallbackSpec) -> Fallback:
    """Read what is done in the place of a task that ends badly.

    Raises:
        NotFoundError: no such agent or skill.
        InvalidInputError: it is neither a value nor another agent, or both; or the task cannot change its agent.
    """
    if (given.value is msgspec.UNSET) == (not given.agent):
        raise InvalidInputError("a fallback is a value, or another agent with its skill: give one of them")
    if given.value is not msgspec.UNSET:
        return Fallback(_bounded(messages.to_json(given.value), "value of a fallback", TASK_RESULT_BYTES_MAX))
    broker.directory.check(given.agent, given.skill)
    if spec.session is not None or spec.idempotency_key is not None:
        raise InvalidInputError(
            "a task with a session or an idempotency_key belongs to its agent, so no other one can do it: "
            "leave them out, or give a value as its fallback"
        )
    data = None if given.input is msgspec.UNSET else messages.to_json(given.input)
    return Fallback(
        agent=given.agent,
        skill=given.skill,
        input=None if data is None else _bounded(data, "input of a fallback", TASK_INPUT_BYTES_MAX),
        deadline_ms=given.deadline_ms or broker.directory.deadline_ms(given.agent),
        attempts_max=broker.directory.attempts_max(given.agent),
    )


class ClientDesk:
    """Serves connections of role ``client``.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        letters = DeadDesk(broker)
        self._handlers: dict[str, Callable[[Session, Any], None]] = {
            "submit": self._submit,
            "get": self._get,
            "wait": self._wait,
            "wait_each": self._wait_each,
            "watch": self._watch,
            "cancel": self._cancel,
            "tree": self._tree,
            "list": self._list,
            "dead": letters.show,
            "replay": letters.replay,
            "discard": letters.discard,
            "stats": self._stats,
            "schedules": self._schedules,
            "state": self._state,
            "resolve": self._resolve,
            "waiting": self._waiting,
        }

    def serve(self, session: Session, kind: str, message: dict[str, Any]) -> None:
        """Handle one request; it is answered after the group that it is part of.

        Raises:
            RefusedError: it is answered with this error.
        """
        if len(self._broker.journal.pending) >= OPERATIONS_PENDING_MAX:
            raise QueueFullError("the broker has more to do than it may keep in memory", 1)
        self._handlers[kind](session, messages.read(messages.CLIENT_MESSAGES[kind], message))

    def _submit(self, session: Session, request: messages.Submit) -> None:
        broker = self._broker
        tasks = tuple(new_task(broker, spec) for spec in request.tasks)
        for agent, when_open in {(spec.agent, spec.when_open) for spec in request.tasks}:
            broker.guards.admit(agent, when_open)
        started_ms = broker.clock.now_ms()

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                if isinstance(result, QueueFullError):
                    result.retry_after_s = broker.retry_after_s(result.agent)
                broker.meters.totals.refused += 1
                session.reply(request.id, error_message(result))
                return
            broker.meters.totals.accepted += sum(not task.duplicate for task in result.reply)
            broker.meters.latency["accept"].add(broker.clock.now_ms() - started_ms)
            accepted = [{"id": task.id, "status": task.status, "duplicate": task.duplicate} for task in result.reply]
            session.reply(request.id, {"t": "accepted", "tasks": accepted})

        broker.journal.enqueue(Submit(tasks), done)

    def _answering(
        self, session: Session, request: messages.RequestId, make: Callable[[Any], dict[str, Any]]
    ) -> Callable[[Outcome | RefusedError], None]:
        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                session.reply(request, error_message(result))
            else:
                session.reply(request, make(result.reply))

        return done

    def _task(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"t": "task", "task": self._broker.with_progress(task)}

    def _get(self, session: Session, request: messages.OfTask) -> None:
        self._broker.journal.enqueue(Get(request.task), self._answering(session, request.id, self._task))

    def _cancel(self, session: Session, request: messages.OfTask) -> None:
        self._broker.journal.enqueue(Cancel(request.task), self._answering(session, request.id, self._task))

    def _resolve(self, session: Session, request: messages.Resolve) -> None:
        operation = Resolve(
            request.task, request.verdict, request.by, request.comment, messages.to_json(request.data),
            request.skill, request.key,
        )  # fmt: skip
        self._broker.journal.enqueue(operation, self._answering(session, request.id, self._task))

    def _waiting(self, session: Session, request: messages.WaitingFor) -> None:
        def make(tasks: list[dict[str, Any]]) -> dict[str, Any]:
            return {"t": "list", "tasks": [self._broker.with_progress(task) for task in tasks]}

        self._broker.journal.enqueue(Waiting(request.limit), self._answering(session, request.id, make))

    def _wait(self, session: Session, request: messages.WaitFor) -> None:
        until_ms = self._broker.clock.now_ms() + request.timeout_ms
        self._broker.watches.add(session, request.id, request.task, until_ms=until_ms)

    def _wait_each(self, session: Session, request: messages.WaitEach) -> None:
        until_ms = self._broker.clock.now_ms() + request.timeout_ms
        self._broker.each.ask(session, request.id, request.tasks, until_ms)

    def _watch(self, session: Session, request: messages.OfTask) -> None:
        self._broker.watches.add(session, request.id, request.task, stream=True)

    def _tree(self, session: Session, request: messages.OfTask) -> None:
        operation = Tree(request.task, TREE_TASKS_MAX)
        self._broker.journal.enqueue(
            operation, self._answering(session, request.id, lambda tasks: {"t": "tree", "tasks": tasks})
        )

    def _list(self, session: Session, request: messages.Listing) -> None:
        def make(tasks: list[dict[str, Any]]) -> dict[str, Any]:
            """An agent that left the plan still has its old tasks; without any, its name is a mistake."""
            if not tasks and request.agent and (problem := self._broker.directory.unknown(request.agent)):
                return error_message(NotFoundError(problem))
            return {"t": "list", "tasks": tasks}

        operation = List(request.status, request.agent, request.limit)
        self._broker.journal.enqueue(operation, self._answering(session, request.id, make))

    def _state(self, session: Session, request: messages.OfState) -> None:
        def make(found: tuple[int, str] | None) -> dict[str, Any]:
            version, data = found or (0, "null")
            return {"t": "state", "state_version": version, "state": messages.raw(data)}

        operation = ReadState(request.agent, request.session)
        self._broker.journal.enqueue(operation, self._answering(session, request.id, make))

    def _schedules(self, session: Session, request: messages.Plain) -> None:
        def make(stored: list[Seen]) -> dict[str, Any]:
            return {"t": "schedules", "schedules": self._broker.schedules.table(stored)}

        self._broker.journal.enqueue(Schedules(), self._answering(session, request.id, make))

    def _stats(self, session: Session, request: messages.Plain) -> None:
        session.reply(request.id, {"t": "stats", **self._broker.statistics().as_json()})
