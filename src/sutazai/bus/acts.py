"""Why it exists: an instance has one door, the broker: what it may ask ``sutazaid`` to do is checked and forwarded.

An act needs the power of its name and a turn that holds. Nothing waits in the broker: the answer of ``sutazaid`` goes
back when it comes, and when its line breaks or it is silent the instance hears ``unavailable`` and asks again. Acts
are idempotent, so asking twice is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sutazai.bus.watch import error_message
from sutazai.errors import BY_CODE, FencedError, InvalidInputError, RefusedError, SutazaiError, UnavailableError
from sutazai.limits import ACT_WAIT_MS, ACTS_PENDING_MAX
from sutazai.powers import POWERS, Power

if TYPE_CHECKING:
    from sutazai.bus.broker import Broker
    from sutazai.bus.messages import Act
    from sutazai.bus.sessions import Instance, Session


@dataclass(slots=True, eq=False)
class _Pending:
    """An act that ``sutazaid`` has not answered.

    Attributes:
        session: who asked.
        request: what.
        until_ms: given up then.
    """

    session: Session
    request: Act
    until_ms: int


class ActDesk:
    """Checks and forwards acts.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pending: list[_Pending] = []

    def act(self, session: Session, instance: Instance, request: Act) -> None:
        """Forward an act to ``sutazaid``.

        Raises:
            RefusedError: the agent has not this power, or there is none of that name.
            InvalidInputError: an argument is wrong.
            FencedError: the turn belongs to somebody else now.
        """
        broker, now_ms = self._broker, self._broker.clock.now_ms()
        power = self._power(instance.agent, request.action)
        lease = broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is None or lease.ending:
            raise FencedError("only a turn that holds may act")
        broker.leases.renew(lease, now_ms)
        try:
            arguments = power.read(request.arguments)
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        if len(self._pending) >= ACTS_PENDING_MAX:
            session.reply(request.id, error_message(UnavailableError(f"{ACTS_PENDING_MAX} acts are under way")))
            return
        pending = _Pending(session, request, now_ms + ACT_WAIT_MS)
        order = {
            "op": power.name, **arguments, "agent": instance.agent, "task": request.task,
            "idle": broker.instances.resting(),
        }  # fmt: skip
        if broker.ask(order, lambda reply: self._answered(pending, reply)):
            self._pending.append(pending)
        else:
            session.reply(request.id, error_message(UnavailableError("sutazaid is away")))

    def _power(self, agent: str, action: str) -> Power:
        power = POWERS.get(action)
        if power is None:
            near = get_close_matches(action, POWERS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(POWERS)}"
            raise RefusedError(f"there is no action {action!r}; {meant}")
        agents = self._broker.directory.agents or {}
        if agent not in agents or action not in agents[agent].powers:
            raise RefusedError(f"{agent} has not the power {action!r}: its manifest.toml must name it in `powers`")
        return power

    def _answered(self, pending: _Pending, reply: dict[str, Any]) -> None:
        if pending not in self._pending:
            return  # given up
        self._pending.remove(pending)
        if reply.get("ok") and isinstance(reply.get("done"), dict):
            pending.session.reply(pending.request.id, {"t": "acted", "done": reply["done"]})
        else:
            pending.session.reply(pending.request.id, error_message(_error(reply)))

    def lost(self) -> None:
        """The line to ``sutazaid`` broke: no answer will come."""
        self._give_up(self._pending, "sutazaid went away meanwhile")

    def tick(self, now_ms: int) -> None:
        """Give up what nobody answers."""
        late = [pending for pending in self._pending if now_ms >= pending.until_ms]
        self._give_up(late, f"sutazaid did not answer within {ACT_WAIT_MS} ms")

    def _give_up(self, given_up: list[_Pending], why: str) -> None:
        self._pending = [pending for pending in self._pending if pending not in given_up]
        for pending in given_up:
            pending.session.reply(pending.request.id, error_message(UnavailableError(why)))


def _error(reply: dict[str, Any]) -> SutazaiError:
    text, code = str(reply.get("error") or "sutazaid gave no reason"), reply.get("code")
    if code == UnavailableError.code:
        return UnavailableError(text)
    return BY_CODE.get(str(code), RefusedError)(text)
