"""Why it exists: what instances say: here I am, give me a task, the turn still runs, the turn is done, may I leave."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sutazai.bus import messages
from sutazai.bus.acts import ActDesk
from sutazai.bus.clients import new_task
from sutazai.bus.own import OwnDesk
from sutazai.bus.recall import RecallDesk
from sutazai.bus.sessions import Instance
from sutazai.bus.spill import without_file
from sutazai.bus.watch import error_message
from sutazai.errors import FencedError, InvalidInputError, ProtocolError, QueueFullError, RefusedError
from sutazai.outside import OUTSIDE
from sutazai.store.failure import Failure
from sutazai.store.model import Commit, NewTask, Outcome, Progress, Turn, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import HeldLease, Session
    from sutazai.store.spill import Spilled

_FAILURE_MESSAGE_CHARACTERS = 4_000
PROGRESS_EVERY_MS = 200
_REST_FROM_MS = 1_000  # a rate that lets nothing start for longer is not waited for awake: waking takes milliseconds
CONNECT_MS_MAX = 120_000  # longer than an instance tries to come back after a restart of the broker


@dataclass(frozen=True, slots=True)
class Ticket:
    """An admission, as ``sutazaid`` told it.

    Attributes:
        agent: whose.
        token: the secret of its instance.
        uid: of its process.
        pid: of its process.
    """

    agent: str
    token: str
    uid: int
    pid: int


class InstanceDesk:
    """Serves connections of role ``instance``.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.tickets: dict[str, Ticket] = {}
        self.by_ticket: dict[str, Instance] = {}
        self._coming: dict[str, int] = {}
        self._unseen: dict[str, int] = {}
        self._pending: list[Session] = []
        self._opened = 0
        self.acts = ActDesk(broker)
        self._handlers: dict[str, Callable[[Session, Instance, Any], None]] = {
            "pull": self._pull,
            "heartbeat": self._heartbeat,
            "commit": self._commit,
            "act": self.acts.act,
            "own": OwnDesk(broker).own,
            "recall": RecallDesk(broker).recall,
            "upload": broker.spill.upload,
            "download": broker.spill.download,
            "cache": broker.cache.cache,
            "hibernate": self._hibernate,
        }

    # Coming and going

    def hello(self, session: Session, message: dict[str, Any]) -> bool:
        """Admit an instance, or keep its hello until its ticket is known.

        Returns:
            Whether it was admitted or is kept.

        Raises:
            ProtocolError: it is not who it says.
        """
        hello: messages.Hello = messages.read(messages.Hello, message)
        ticket = hello.ticket
        if self._broker.options.open:
            self._opened += 1
            ticket = ticket or f"open-{session.peer.pid}-{self._opened}"
        elif not self._is_admitted(session, hello):
            now_ms = self._broker.clock.now_ms()
            if session.hello is None:
                session.hello = (message, now_ms + self._broker.options.ticket_wait_ms)
                self._pending.append(session)
            return False
        session.hello = None
        self._welcome(session, hello, ticket)
        return True

    def _is_admitted(self, session: Session, hello: messages.Hello) -> bool:
        ticket = self.tickets.get(hello.ticket)
        if ticket is None:
            return False
        same = hmac.compare_digest(ticket.token.encode(), hello.token.encode())
        peer = session.peer
        if not same or ticket.agent != hello.agent or (ticket.uid, ticket.pid) != (peer.uid, peer.pid):
            raise ProtocolError(f"the ticket {hello.ticket!r} was not given to process {peer.pid} of uid {peer.uid}")
        return True

    def _welcome(self, session: Session, hello: messages.Hello, ticket: str) -> None:
        broker = self._broker
        now_ms = broker.clock.now_ms()
        if not hello.agent:
            raise ProtocolError("an instance says in its hello which agent it is")
        if hello.agent in OUTSIDE:
            raise ProtocolError(f"{hello.agent!r} is outside of the fleet: it has no instances")
        instance = Instance(hello.agent, ticket, session.peer.pid, session, reads_files=hello.files)
        older = self.by_ticket.get(ticket)
        self._coming.pop(ticket, None)
        attached = hello.held is not None and broker.leases.attach(instance, hello.held.task, hello.held.fence, now_ms)
        instance.ready = attached
        if not attached:
            broker.leases.came_back_without(ticket, older)
        if older is not None:
            self._leave(older)
            older.session.peer.close()
        session.role, session.instance = "instance", instance
        self.by_ticket[ticket] = instance
        session.reply(
            hello.id,
            {"t": "welcome", "v": messages.PROTOCOL_VERSION, "lease_ms": broker.options.lease_ms,
             "heartbeat_ms": broker.options.heartbeat_ms, "ticket": ticket},
        )  # fmt: skip
        if hello.held is not None and not attached:
            instance.push({"t": "cancel", "task": hello.held.task, "fence": hello.held.fence})
        if broker.dispatcher.stopped:
            instance.push({"t": "drain"})
        broker.look_for_demand()

    def _leave(self, instance: Instance) -> None:
        """An instance's connection is gone or replaced."""
        broker = self._broker
        instance.session.instance = None
        broker.dispatcher.forget(instance)
        if self.by_ticket.get(instance.ticket) is instance:
            del self.by_ticket[instance.ticket]
        broker.leases.closed(instance, broker.clock.now_ms())
        broker.look_for_demand()

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        if session in self._pending:
            self._pending.remove(session)
        if session.instance is not None:
            self._leave(session.instance)

    def add_ticket(self, ticket: str, facts: Ticket) -> None:
        """``sutazaid`` says that an instance has been admitted."""
        self.tickets[ticket] = facts
        if ticket not in self.by_ticket:
            self._coming[ticket] = self._broker.clock.now_ms() + self._broker.options.ticket_wait_ms
        for session in [s for s in self._pending if s.hello is not None and s.hello[0].get("ticket") == ticket]:
            self._retry(session)

    def drop_ticket(self, ticket: str) -> None:
        """``sutazaid`` says that an instance is gone."""
        self.tickets.pop(ticket, None)
        self._coming.pop(ticket, None)
        self._unseen.pop(ticket, None)

    def free(self) -> dict[str, list[int]]:
        """Instances by agent: all of them, and those that can take a task now or in a moment."""
        found: dict[str, list[int]] = {}
        for instance in self.by_ticket.values():
            numbers = found.setdefault(instance.agent, [0, 0])
            numbers[0] += 1
            numbers[1] += instance.lease is None and not instance.leaving
        for ticket in self._coming:
            numbers = found.setdefault(self.tickets[ticket].agent, [0, 0])
            numbers[0] += 1
            numbers[1] += 1
        return found

    def claiming(self, agent: str) -> int:
        """Instances of an agent for which a claim is under way."""
        return sum(instance.claiming and instance.agent == agent for instance in self.by_ticket.values())

    def resting(self) -> list[str]:
        """Tickets of the instances that have no turn and would get none now."""
        return [
            instance.ticket
            for instance in self.by_ticket.values()
            if instance.lease is None and not instance.claiming and not instance.leaving
            and self._nothing_soon(instance.agent)
        ]  # fmt: skip

    def _nothing_soon(self, agent: str) -> bool:
        """No task of an agent is due, or rate, breaker or pressure let none start so soon that waiting would pay."""
        broker = self._broker
        entry = broker.store.counts.of(agent)
        if entry.ready <= 0 or broker.valve.room(agent, entry.leased) == 0:
            return True
        now_ms = broker.clock.now_ms()
        left_ms = max(broker.dispatcher.limited_ms(agent, now_ms), broker.guards.wait_ms(agent))
        return left_ms > _REST_FROM_MS

    def rest(self, tickets: list[str]) -> None:
        """Ask these to hibernate now, by their usual way: each asks whether it may, so that no task is lost."""
        idle = set(self.resting())
        for ticket in tickets:
            if ticket in idle:
                self.by_ticket[ticket].push({"t": "rest"})

    def _retry(self, session: Session) -> None:
        if session.hello is None:
            return
        try:
            if self.hello(session, session.hello[0]):
                self._pending.remove(session)
        except (ProtocolError, InvalidInputError) as error:
            self._turn_away(session, error)

    def _turn_away(self, session: Session, error: Exception) -> None:
        self._pending.remove(session)
        session.peer.send(error_message(error))
        session.peer.close()

    def tick(self, now_ms: int) -> None:
        """Turn away those whose ticket nobody knows."""
        for session in [s for s in self._pending if s.hello is not None and s.hello[1] <= now_ms]:
            self._turn_away(session, ProtocolError("nobody knows this ticket"))
        for ticket in [ticket for ticket, until_ms in self._coming.items() if until_ms <= now_ms]:
            del self._coming[ticket]
        self._end_strangers(now_ms)
        self.acts.tick(now_ms)

    def _end_strangers(self, now_ms: int) -> None:
        """An instance that holds a ticket and never asks for work (its import hangs) would block its agent for ever."""
        for ticket in self.tickets:
            if (instance := self.by_ticket.get(ticket)) is not None and instance.ready:
                self._unseen.pop(ticket, None)
            elif now_ms - self._unseen.setdefault(ticket, now_ms) > CONNECT_MS_MAX:
                self._unseen[ticket] = now_ms
                self._broker.end_instance(ticket, f"it did not ask for work within {CONNECT_MS_MAX // 1_000} s")

    # Working

    def serve(self, session: Session, kind: str, message: dict[str, Any]) -> None:
        """Handle one message.

        Raises:
            RefusedError: it is answered with this error.
        """
        instance = session.instance
        if instance is None:
            raise FencedError("this instance connected a second time: the newer connection is used")
        try:
            request = messages.read(messages.INSTANCE_MESSAGES[kind], message)
        except InvalidInputError as error:
            request = _as_failure(kind, message, error)
        instance.ready = True  # whatever it says: its import is over, and a commit may be its request for work
        self._handlers[kind](session, instance, request)

    def _pull(self, _: Session, instance: Instance, __: messages.Plain) -> None:
        self._broker.leases.answered(instance)
        if instance.lease is not None:
            return
        self._broker.dispatcher.credit(instance)
        if self._broker.has_work():
            self._broker.journal.wake()

    def deliver(self, instance: Instance, turn: Turn) -> None:
        """Hand a claimed turn to its instance, after the commit."""
        broker, now_ms = self._broker, self._broker.clock.now_ms()
        if instance.session.closed or instance.session.instance is not instance:
            broker.leases.undelivered(turn, instance.ticket, now_ms)
            return
        broker.leases.hold(instance, turn, now_ms)
        broker.meters.latency["queue"].add(max(0, broker.clock.wall_ms() - turn.created_wall_ms))
        if turn.results and not instance.reads_files:
            turn = replace(turn, results=[without_file(result) for result in turn.results])
        instance.push(_turn_message(turn, broker.options.lease_ms, now_ms))

    def _heartbeat(self, session: Session, instance: Instance, request: messages.Heartbeat) -> None:
        broker = self._broker
        lease = broker.leases.find(request.task, request.fence, instance.ticket)
        held = lease is not None and not lease.ending
        if lease is not None and held:
            broker.leases.renew(lease, broker.clock.now_ms())
            if request.progress is not None:
                self._progress(lease, request.progress, broker.clock.now_ms())
        session.reply(request.id, {"t": "lease", "ok": held, "cancel": not held,
                                   "task": request.task, "fence": request.fence})  # fmt: skip

    def _progress(self, lease: HeldLease, progress: messages.Progress, now_ms: int) -> None:
        """Keep the last word of a turn; it becomes an event when it is news, and not too often."""
        data = {"fraction": progress.fraction, "text": progress.text}
        if data != lease.progress and now_ms >= lease.progress_next_ms:
            lease.progress_next_ms = now_ms + PROGRESS_EVERY_MS
            self._broker.journal.enqueue(Progress(lease.task, lease.fence, data), lambda _: None)
        lease.progress = data

    def _commit(self, session: Session, instance: Instance, request: messages.Commit) -> None:
        broker = self._broker
        broker.leases.answered(instance)
        lease = broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is not None:
            broker.leases.renew(lease, broker.clock.now_ms())
        operation, asked = self._operation(instance, request, lease)
        started_ms = broker.clock.now_ms()

        def done(result: Outcome | RefusedError) -> None:
            if operation.outcome == "failed":
                self._budgeted(instance.agent, operation, result)
            broker.spill.settled(operation, result)
            broker.bulkhead.settle(asked)
            self._committed(session, request, result, started_ms)

        applied = None
        if request.pull and request.outcome != "checkpoint":

            def applied() -> None:
                broker.dispatcher.credit_in_group(instance, request.task, request.fence)

        broker.journal.enqueue(operation, done, applied)

    def _budgeted(self, agent: str, operation: Commit, result: Outcome | RefusedError) -> None:
        """A token was taken for the next attempt: it is given back when there is none."""
        if not _is_retry(operation.failure):
            return
        if isinstance(result, RefusedError) or result.reply.duplicate or result.reply.status != "queued":
            self._broker.guards.not_retried(agent, operation.hold_ms)

    def _committed(
        self, session: Session, request: messages.Commit, result: Outcome | RefusedError, started_ms: int
    ) -> None:
        broker = self._broker
        if isinstance(result, RefusedError):
            if isinstance(result, FencedError):
                broker.meters.totals.fenced += 1
                broker.leases.release(request.task, request.fence)
            session.reply(request.id, error_message(result))
            return
        if request.outcome != "checkpoint" or result.reply.status != "leased":
            lease = broker.leases.release(request.task, request.fence)
            if lease is not None and lease.started_ms:
                broker.meters.latency["turn"].add(broker.clock.now_ms() - lease.started_ms)
        if not result.reply.duplicate:
            broker.meters.totals.committed += 1
        broker.meters.latency["commit"].add(broker.clock.now_ms() - started_ms)
        session.reply(
            request.id,
            {"t": "committed", "status": result.reply.status, "state_version": result.reply.state_version},
        )

    def _operation(
        self, instance: Instance, request: messages.Commit, lease: HeldLease | None
    ) -> tuple[Commit, list[str]]:
        """Read a commit; gives also which calls of it were counted before they are on disk."""
        failure, asked = None, list[str]()
        if request.outcome == "failed":
            spec = request.error or messages.FailureSpec(message="the turn failed and did not say why")
            failure = Failure(
                spec.code, spec.message[:_FAILURE_MESSAGE_CHARACTERS], spec.retryable, _bounded(spec.detail)
            )
        emits: tuple[NewTask, ...] = ()
        outcome = request.outcome
        try:
            if failure is None and request.emits:
                priority = lease.priority if lease is not None and lease.priority >= 0 else 5
                emits = tuple(self._emit(spec, request, lease, priority) for spec in request.emits)
                asked = self._broker.bulkhead.ask(instance.agent, emits)
        except QueueFullError as error:
            emits, outcome, failure = (), "failed", Failure(error.code, error.detail)
        except RefusedError as error:
            emits, outcome, failure = (), "failed", Failure("invalid-commit", error.detail, retryable=False)
        wait = None
        if request.wait is not None and outcome == "wait":
            carry = None if request.wait.carry is None else messages.to_json(request.wait.carry)
            wait = Wait(tuple(request.wait.tasks), request.wait.then, carry, request.wait.count)
        commit = Commit(
            task=request.task, fence=request.fence, ticket=instance.ticket, outcome=outcome,
            result=self._result(request) if outcome == "result" else None, failure=failure, wait=wait,
            state=None if request.state is None else messages.to_json(request.state),
            state_version=request.state_version, emits=emits,
            effects=messages.to_json(request.effects) if request.effects else None,
            jitter=self._broker.directory.jitter(instance.agent, self._broker.rng),
            retry=self._broker.directory.retry(instance.agent),
            hold_ms=self._broker.guards.reserve(instance.agent) if _is_retry(failure) else 0,
            probe_ms=self._broker.guards.probe_ms(instance.agent, request.task) if failure is not None else 0,
            keeps=tuple((name, messages.to_json(value)) for name, value in (request.keeps or {}).items()),
        )  # fmt: skip
        return commit, asked

    def _result(self, request: messages.Commit) -> str | Spilled:
        if request.result_ref is None:
            return messages.to_json(request.result)
        return self._broker.spill.hold(request, request.result_ref)

    def _emit(
        self, spec: messages.TaskSpec, request: messages.Commit, lease: HeldLease | None, priority: int
    ) -> NewTask:
        """Make a task that a turn hands on; whether it waits for an open circuit depends on who waits for it."""
        task, left_ms = new_task(self._broker, spec, priority=priority), 0
        if request.wait is not None and task.id in request.wait.tasks and lease is not None and lease.deadline_ms:
            left_ms = max(1, lease.deadline_ms - self._broker.clock.now_ms())
        return self._broker.guards.judge(task, spec.when_open, left_ms)

    def _hibernate(self, session: Session, instance: Instance, request: messages.Plain) -> None:
        broker = self._broker
        has_work = not self._nothing_soon(instance.agent) and not broker.dispatcher.stopped
        if instance.lease is not None or instance.claiming or has_work:  # a claim under way is as good as a lease
            session.reply(request.id, {"t": "stay"})
            return
        broker.dispatcher.forget(instance)
        instance.leaving = True
        session.reply(request.id, {"t": "bye"})


def _is_retry(failure: Failure | None) -> bool:
    """Whether a failure asks for a retry out of the budget; back-pressure is none."""
    return failure is not None and failure.retryable and failure.code != QueueFullError.code


def _bounded(detail: Any) -> Any:
    """A failure's detail is evidence, not a place for data."""
    if detail is None or len(messages.to_json(detail)) <= messages.DETAIL_BYTES_MAX:
        return detail
    return "the detail was too large to be kept"


def _as_failure(kind: str, message: dict[str, Any], error: InvalidInputError) -> messages.Commit:
    """A commit that is not well formed ends its turn for good: it would be the same the next time."""
    task, fence = message.get("task"), message.get("fence")
    if kind != "commit" or not isinstance(task, str) or type(fence) is not int or not 0 <= fence <= messages.COUNT_MAX:
        raise error
    spec = messages.FailureSpec("invalid-commit", error.detail, retryable=False)
    identifier = message.get("id")
    return messages.Commit(
        task=task, fence=fence, outcome="failed", error=spec, pull=message.get("pull") is True,
        id=identifier if isinstance(identifier, int | str) else None,
    )  # fmt: skip


def _turn_message(turn: Turn, lease_ms: int, now_ms: int) -> dict[str, Any]:
    """Write a turn for the wire; stored JSON goes in as it is."""
    results = [
        {**result, "result": messages.raw(result["result"]) if result["result"] is not None else None}
        for result in turn.results
    ]
    return {
        "t": "turn",
        "task": {
            "id": turn.task, "agent": turn.agent, "skill": turn.skill, "input": messages.raw(turn.input),
            "session": turn.session, "priority": turn.priority, "attempt": turn.attempt, "parent": turn.parent,
            "step": turn.step, "carry": messages.raw(turn.carry) if turn.carry is not None else None,
            "results": results, "created_ms": turn.created_wall_ms,
        },
        "fence": turn.fence,
        "lease_ms": lease_ms,
        "deadline_left_ms": max(0, turn.deadline_ms - now_ms),
        "state": messages.raw(turn.state) if turn.state is not None else None,
        "state_version": turn.state_version,
    }  # fmt: skip
