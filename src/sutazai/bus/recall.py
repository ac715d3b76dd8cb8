"""Why it exists: what a task once stored is read when it is needed, so that no turn carries all that came before it.

A turn that holds may read the values that a task of its own agent kept, and results of tasks that its agent's tasks
emitted: those were given to it anyway. Nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.bus import messages
from sutazai.bus.spill import without_file
from sutazai.bus.watch import error_message
from sutazai.errors import FencedError, RefusedError
from sutazai.store.model import Outcome, Recall, Recalled

if TYPE_CHECKING:
    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import Instance, Session


class RecallDesk:
    """Serves ``recall``.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def recall(self, session: Session, instance: Instance, request: messages.Recall) -> None:
        """Answer with kept values and results.

        Raises:
            FencedError: the turn belongs to somebody else now.
        """
        lease = self._broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is None or lease.ending:
            raise FencedError("only a turn that holds may ask")
        self._broker.leases.renew(lease, self._broker.clock.now_ms())

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                session.reply(request.id, error_message(result))
            else:
                session.reply(request.id, _answer(result.reply, instance))

        operation = Recall(instance.agent, request.of or request.task, tuple(request.names), tuple(request.results))
        self._broker.journal.enqueue(operation, done)


def _answer(found: Recalled, instance: Instance) -> dict[str, Any]:
    results = [
        {**result, "result": None if result["result"] is None else messages.raw(result["result"])}
        for result in (found.results if instance.reads_files else map(without_file, found.results))
    ]
    values = {name: messages.raw(text) for name, text in found.values.items()}
    return {"t": "recalled", "values": values, "results": results, "left": found.left}
