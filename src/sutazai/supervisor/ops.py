"""Why it exists: the operations of ``sutazaid.sock`` stand in one table, each a few lines that call the part in charge.

The table is the reference page's source (``docs/reference/sutazaid-socket.md``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sutazai.errors import ProtocolError, RefusedError
from sutazai.host import procfs
from sutazai.limits import PRIORITY_LOWEST
from sutazai.supervisor.instances import BROKER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sutazai.supervisor.lines import LineServer, Request
    from sutazai.supervisor.status import Parts
    from sutazai.supervisor.workers import Workers

    Levers = Mapping[str, Callable[["Request"], None]]  # what agents with a power may do, by the power's name

SIGNAL_MAX = 64
#: Operations in which a connection says its name, and the field that holds it.
NAMING = {"hello": "process", "register": "worker"}
#: What a hosting worker with a user id of its own may ask.
GUEST_OPS = frozenset({*NAMING, "hosting", "hosted", "fork-failed", "ended"})
TEXT_CHARACTERS_MAX = 1_000
_PRESSURE = ("priority_max", "share", "why")


class Fleet(Protocol):
    """What the operations ask of the supervisor itself."""

    def status(self) -> dict[str, Any]:
        """The whole picture."""
        ...

    def stop(self, then: Callable[[], None], why: str) -> None:
        """Stop the fleet; call back when nothing is left."""
        ...

    def change_plan(self, path: Path) -> dict[str, Any]:
        """Check a new plan and begin to apply it."""
        ...

    def set_queues(self, queues: dict[str, Any]) -> None:
        """Take the broker's queue depths."""
        ...

    @property
    def fleet_name(self) -> str:
        """Name of the fleet."""
        ...

    @property
    def pid(self) -> int:
        """Of ``sutazaid``."""
        ...


class Operations:
    """The table of operations."""

    def __init__(self, fleet: Fleet, parts: Parts, workers: Workers, server: LineServer, levers: Levers) -> None:
        self._server = server
        self._said: dict[str, Any] = {}  # what the broker was told of the pressure; empty for none
        self._fleet = fleet
        self._workers = workers
        self._keeper = parts.keeper
        self._instances = instances = parts.instances
        self._cells = parts.cells
        self._alarms = alarms = parts.alarms
        self.table: dict[str, Callable[[Request], None]] = {
            "hello": self._hello,
            "ready": self._ready,
            "status": lambda request: request.reply(**fleet.status()),
            "conditions": lambda request: request.reply(conditions=alarms.to_json()),
            "condition": self._condition,
            "wake": self._wake,
            "queues": self._queues,
            "pressure": self._pressure,
            "restart": self._restart,
            "stop": self._stop,
            "plan": self._plan,
            "kill": self._kill,
            "register": workers.register,
            "forked": instances.forked,
            "fork-failed": instances.fork_failed,
            **levers,
            "spare": instances.offered,
            "hosting": instances.hosting.reported,
            "hosted": instances.hosting.hosted,
            "ended": instances.hosting.ended,
        }

    def handle(self, request: Request) -> None:
        """Do what one line asks.

        Raises:
            ProtocolError: there is no such operation.
        """
        operation = self.table.get(request.op)
        if operation is None:
            raise ProtocolError(f"there is no operation {request.op!r}; there are {', '.join(sorted(self.table))}")
        if request.connection.uid not in {0, os.geteuid()}:
            self._check_guest(request)
        operation(request)

    def _check_guest(self, request: Request) -> None:
        """A hosting worker without privileges may speak for itself and ask for nothing else."""
        name = request.connection.process
        if request.op in NAMING:
            name = request.text(NAMING[request.op])
        if request.op not in GUEST_OPS or not self._workers.is_guest(name, request.connection.pid):
            raise RefusedError(f"user {request.connection.uid} may not ask for {request.op}")

    def _hello(self, request: Request) -> None:
        process = request.text("process")
        self._server.name(request.connection, process)
        self._workers.greeted(process, request.connection.pid)
        request.reply(fleet=self._fleet.fleet_name, pid=self._fleet.pid)
        if process == BROKER:
            self._instances.tell_all_tickets()
            if self._said:  # it was restarted, and knows nothing of it
                request.connection.push("pressure", **self._said)
            if self._instances.stopping:  # it was away when the fleet began to stop
                request.connection.push("drain")
            self._instances.room()

    def _ready(self, request: Request) -> None:
        process = request.body.get("process") or request.connection.process
        unit = self._keeper.unit(str(process))
        if request.connection.pid != unit.pid and request.connection.pid not in self._cells.groups.pids(unit.group):
            raise RefusedError(f"pid {request.connection.pid} is not of {unit.name}")
        request.reply()
        if unit.spec.ready.kind == "notify":
            self._keeper.ready(unit)

    def _condition(self, request: Request) -> None:
        active = request.body.get("active")
        if not isinstance(active, bool):
            raise ProtocolError("condition: 'active' must be true or false")
        text = str(request.body.get("text", ""))[:TEXT_CHARACTERS_MAX]
        self._alarms.reported(request.text("name"), request.text("subject"), text, active=active)
        request.reply()

    def _wake(self, request: Request) -> None:
        want = max(1, request.number("want", 1))
        verdict, why, tickets = self._instances.wake(request.text("agent"), want)
        request.reply(status=verdict, why=why, tickets=tickets)

    def _queues(self, request: Request) -> None:
        queues = request.body.get("queues")
        if not isinstance(queues, dict):
            raise ProtocolError("queues: 'queues' must be an object")
        self._fleet.set_queues(queues)
        request.reply()

    def _pressure(self, request: Request) -> None:
        """Say how much of what is due the broker may hand out; without a field, only ask."""
        body = request.body
        if any(name in body for name in _PRESSURE):
            priority, share = request.number("priority_max", PRIORITY_LOWEST), body.get("share", 1)
            if not 0 <= priority <= PRIORITY_LOWEST:
                raise ProtocolError(f"pressure: 'priority_max' must be from 0 to {PRIORITY_LOWEST}")
            if type(share) not in {int, float} or not 0 <= share <= 1:
                raise ProtocolError("pressure: 'share' must be a number from 0 to 1")
            why = str(body.get("why", ""))[:TEXT_CHARACTERS_MAX]
            said = {"priority_max": priority, "share": share, "why": why}
            self._said = said if priority < PRIORITY_LOWEST or share < 1 else {}
            if (broker := self._server.named(BROKER)) is not None:
                broker.push("pressure", **said)
        request.reply(pressure=self._said or {"priority_max": PRIORITY_LOWEST, "share": 1, "why": ""})

    def _restart(self, request: Request) -> None:
        self._keeper.restart(request.text("process"))
        request.reply()

    def _stop(self, request: Request) -> None:
        pid = request.connection.pid
        self._fleet.stop(request.reply, f"process {pid} ({procfs.name(pid)}) asked for it")

    def _plan(self, request: Request) -> None:
        request.reply(**self._fleet.change_plan(Path(request.text("path"))))

    def _kill(self, request: Request) -> None:
        """End an instance (``ticket``) or send a signal to a process (``process``)."""
        if "process" in request.body:
            number = request.number("signal", 9)
            if not 0 < number <= SIGNAL_MAX:
                raise ProtocolError(f"kill: {number} is no signal")
            self._keeper.signal(request.text("process"), number)
        else:
            ticket = request.text("ticket" if "ticket" in request.body else "instance")
            own = request.body.get("own", True) is not False
            self._instances.end(ticket, str(request.body.get("reason", "asked for")), own=own, grace_ms=0)
        request.reply()
