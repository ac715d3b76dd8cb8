"""Why it exists: the zygote and its members are processes that other processes fork, so they come to us by name.

The root zygote is started by argv like any process; it registers as itself and is then asked to fork the members of
the runtime pools. A member is in no one's books until it registers: then its pid, told by the kernel, is put into its
own group and watched like every other process. It registers twice: before it pre-loads (``"ready": false``), so that
the memory is charged to its own group and not to the zygote's, and when it can fork.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sutazai.errors import HostError, ProtocolError, RefusedError
from sutazai.host import procfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import Worker
    from sutazai.supervisor.keeper import Keeper
    from sutazai.supervisor.lines import Connection, LineServer, Request
    from sutazai.supervisor.unit import Unit


class Workers:
    """The runtime pools: who is registered, and whom to ask for a fork."""

    def __init__(self, server: LineServer, keeper: Keeper, cells: Cells, alarms: Alarms) -> None:
        self._server = server
        self._keeper = keeper
        self._cells = cells
        self._alarms = alarms
        self._workers: dict[str, Worker] = {}
        self._root = ""
        self.on_registered: Callable[[], None] = lambda: None
        self.on_host_gone: Callable[[Unit], None] = lambda _unit: None
        keeper.fork_member = self._fork_member
        keeper.on_gone = self._gone

    def set_plan(self, root: str, workers: list[Worker]) -> None:
        """Take over who is to exist."""
        self._root = root
        self._workers = {worker.name: worker for worker in workers}
        self._server.guests = frozenset(worker.uid for worker in workers if worker.hosts and worker.uid >= 0)

    def for_family(self, family: str) -> list[tuple[str, Connection]]:
        """Name the ready members that pre-load a family, each with its connection."""
        found = []
        for worker in self._workers.values():
            unit = self._keeper.units.get(worker.name)
            connection = self._server.named(worker.name)
            if worker.family == family and unit is not None and unit.state == "ready" and connection is not None:
                found.append((worker.name, connection))
        return found

    def name_of_family(self, family: str) -> str:
        """Name a worker of a family, registered or not; empty when the plan has none."""
        return next((worker.name for worker in self._workers.values() if worker.family == family), "")

    def family_of(self, name: str) -> str:
        """Say what a worker pre-loads; empty when the plan has no such worker."""
        worker = self._workers.get(name)
        return worker.family if worker is not None else ""

    # Workers that host

    def hosts(self, family: str) -> bool:
        """Whether the workers of a family hold their instances inside themselves."""
        return any(worker.hosts and worker.family == family for worker in self._workers.values())

    def hosting(self) -> list[tuple[Worker, Unit]]:
        """All hosting workers of the plan, each with its process."""
        units = self._keeper.units
        return [(each, units[each.name]) for each in self._workers.values() if each.hosts and each.name in units]

    def unit(self, name: str) -> Unit | None:
        """Find a worker's process."""
        return self._keeper.units.get(name) if name in self._workers else None

    def demand(self, family: str) -> str:
        """Start one more worker that hosts, if there is one; says what a wake waits for."""
        units = [unit for worker, unit in self.hosting() if worker.family == family]
        coming = [unit for unit in units if unit.state in {"waiting", "starting", "backoff", "stopping"}]
        if not coming and (asleep := [unit for unit in units if unit.state == "stopped"]):
            self._keeper.demand(asleep[0].name)
            coming = asleep[:1]
        if not coming:
            return f"no worker of the family {family} is connected"
        return f"{coming[0].name} is {coming[0].state}" + (f": {coming[0].why}" if coming[0].why else "")

    def rest(self, name: str) -> None:
        """Stop a worker that hosts nothing; the next wake starts it again."""
        self._keeper.stop([name], self.on_registered)

    def is_guest(self, name: str, pid: int) -> bool:
        """Whether a process is the hosting worker that it says it is."""
        worker, unit = self._workers.get(name), self._keeper.units.get(name)
        return worker is not None and worker.hosts and unit is not None and unit.pid == pid

    def _gone(self, unit: Unit) -> None:
        worker = self._workers.get(unit.name)
        if worker is not None and worker.hosts:
            self.on_host_gone(unit)

    # Coming

    def register(self, request: Request) -> None:
        """Take a worker in.

        Raises:
            NotFoundError: the plan has no such worker.
            ProtocolError: it gives another pid than the kernel.
            RefusedError: it lives already, or cannot be limited.
        """
        name = request.text("worker")
        connection = request.connection
        if request.number("pid", connection.pid) != connection.pid:
            raise ProtocolError(f"register: the kernel says that your pid is {connection.pid}")
        unit = self._keeper.unit(name)
        if name != self._root and name not in self._workers:
            raise RefusedError(f"{name} is no worker")
        hosting = name in self._workers and self._workers[name].hosts
        if hosting and unit.pid != connection.pid:
            raise RefusedError(f"{name} is pid {unit.pid}; only sutazaid starts it")
        if name != self._root and unit.pid != connection.pid:
            self._take_in(unit, connection.pid)
        if request.body.get("ready", True) is False:  # what it pre-loads from now on is charged to its own group
            request.reply()
            return
        self._server.name(connection, name)
        if hosting:
            self._tell_privileges(self._workers[name])
        elif request.number("threads", 1) > 1:
            self._alarms.raise_("WorkerCannotFork", name, f"it has {request.number('threads', 1)} threads")
        else:
            self._alarms.clear("WorkerCannotFork", name)
        request.reply()
        self._keeper.ready(unit)
        self._keeper.advance()
        self.on_registered()

    def _tell_privileges(self, worker: Worker) -> None:
        if worker.unreadable:
            text = f"{worker.name} runs as root: other users cannot read {worker.unreadable}"
            self._alarms.raise_("PrivilegesNotDropped", worker.name, text)
        else:
            self._alarms.clear("PrivilegesNotDropped", worker.name)

    def greeted(self, name: str, pid: int) -> None:
        """A member says hello before it loads: from here on what it loads is charged to its own group.

        A refusal is told when it registers.
        """
        unit = self._keeper.units.get(name)
        if name in self._workers and unit is not None and not unit.pid:
            with suppress(RefusedError):
                self._take_in(unit, pid)

    def _take_in(self, unit: Unit, pid: int) -> None:
        if unit.pid:
            raise RefusedError(f"{unit.name} lives already as pid {unit.pid}")
        if unit.state in {"stopping", "stopped"} or not unit.wanted:
            raise RefusedError(f"{unit.name} is being stopped")
        if procfs.identity(pid) is None:
            raise RefusedError(f"process {pid} has ended")
        try:
            self._cells.ensure(unit.name, unit.group, unit.spec.limits)
            self._cells.groups.place(unit.group, pid)
        except (HostError, ProcessLookupError) as error:
            raise RefusedError(f"{unit.name} cannot be limited: {error}") from error
        unit.cancel_all()
        self._keeper.admit(unit, pid)
        self._keeper.run(unit, pid)

    def _fork_member(self, unit: Unit) -> str:
        """Ask the root zygote for a member; says why not yet."""
        root = self._server.named(self._root) if self._root else None
        if root is None:
            return "the zygote is not there"
        root.push("member", worker=unit.name)
        return ""
