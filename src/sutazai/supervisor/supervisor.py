"""Why it exists: the parts of ``sutazaid`` are put together in one place, and here only.

``Supervisor`` owns the loop, the plan and the order of the big steps: adopt, serve, tick, change the plan, stop. What a
process, an instance, a stop or a plan change means stands in the module of that name.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import ConfigError, RefusedError
from sutazai.host.cgroup import detect_groups
from sutazai.limits import TICK_MS
from sutazai.supervisor import fds, spares, status
from sutazai.supervisor.acts import ActLog
from sutazai.supervisor.adopt import adopt
from sutazai.supervisor.alarms import Alarms
from sutazai.supervisor.cells import Cells
from sutazai.supervisor.contract import PlanFile
from sutazai.supervisor.drain import Drain
from sutazai.supervisor.facts import Facts, Wish, boot_id
from sutazai.supervisor.gate import Gate
from sutazai.supervisor.guarding import replace_guard
from sutazai.supervisor.health import Doctor
from sutazai.supervisor.instances import Instances, InstanceTools
from sutazai.supervisor.journal import say
from sutazai.supervisor.keeper import Keeper, Tools, planned_processes
from sutazai.supervisor.launch import Launcher
from sutazai.supervisor.lines import Connection, LineServer
from sutazai.supervisor.listeners import Listeners, bind_unix
from sutazai.supervisor.logs import LogKeeper
from sutazai.supervisor.loop import READ, Loop
from sutazai.supervisor.ops import Operations
from sutazai.supervisor.reaper import Reaper
from sutazai.supervisor.reclaim import Reclaimer
from sutazai.supervisor.resize import Resizer
from sutazai.supervisor.sample import Sampler
from sutazai.supervisor.slots import Slots, Tokens
from sutazai.supervisor.swap import Rollout, checked, diff
from sutazai.supervisor.watch import Watch
from sutazai.supervisor.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.fds import FdStore

OWN_SOCKET = "own:sutazaid"
SOCKET_NAME = "sutazaid.sock"
DESTROY_TRIES = 50


class Supervisor:
    """One running fleet."""

    def __init__(self, plan: PlanFile, plan_path: Path, store: FdStore, lock_fd: int = -1) -> None:
        state = Path(plan.state_dir)
        self._plan = plan
        self._plan_path = plan_path
        self._store = store
        self._lock_fd = lock_fd
        self._facts_path = state / "adopt.json"
        self._wish = Wish(state / "wish.json")
        self._since_wall_ms = 0
        self._dirty = False
        self._rollout: Rollout | None = None
        self._drain: Drain | None = None
        self._on_stopped: list[Callable[[], None]] = []

        self.loop = Loop()
        self._reaper = Reaper(self.loop)
        self._alarms = Alarms(self.loop.clock, self._changed)
        self._groups = detect_groups(plan.fleet, state)
        self._cells = Cells(self.loop, self._groups, self._alarms)
        self._gate = Gate(self.loop.clock)
        self._listeners = Listeners(store)
        self._logs = LogKeeper(self.loop, state / "logs")
        self._keeper = Keeper(
            Tools(
                loop=self.loop,
                alarms=self._alarms,
                cells=self._cells,
                gate=self._gate,
                reaper=self._reaper,
                launcher=Launcher(self._cells, self._listeners, self._logs),
                doctor=Doctor(self.loop, self._alarms),
            ),
            self._changed,
        )
        self._server = LineServer(self.loop, self._own_socket(), self._on_closed)
        self._workers = Workers(self._server, self._keeper, self._cells, self._alarms)
        slots = Slots(0)
        notes = Path(plan.run_dir) / spares.NOTES
        waiting = spares.SpareTools(self.loop, self._cells, self._gate, self._reaper, self._workers, notes)
        self._instances = Instances(
            InstanceTools(self.loop, self._server, self._alarms, self._cells, self._gate, self._reaper, self._workers),
            Tokens(state / "ticket.key"),
            slots,
            spares.Spares(waiting, slots),
        )
        self._workers.on_registered = self._instances.room
        self._gate.on_release = self._instances.room
        self._gate.on_short = self._instances.spares.end_all
        self._sampler = Sampler(self._groups, state)
        parts = status.Parts(self._cells, self._gate, self._keeper, self._instances, self._alarms)
        self._parts = parts
        self._watch = Watch(self.loop, parts, self._sampler, self._server)
        self._acts = ActLog(self.loop.clock)
        self._resizer = Resizer(state / "resized.json", parts, self._acts)
        reclaimer = Reclaimer(self.loop, parts, self._server, self._acts)
        levers = {"reclaim": reclaimer.reclaim, "resize": self._resizer.resize}
        self._operations = Operations(self, parts, self._workers, self._server, levers)

    # Start

    def start(self) -> None:
        """Adopt what runs, and begin to serve; the plan's processes follow in their stages."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.on_signal(number, lambda: self.stop(_nobody, "a signal asked for it"))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        facts = Facts.load(self._facts_path)
        self._since_wall_ms = facts.since_wall_ms or self.loop.clock.wall_ms()
        self._resizer.take(self._plan, fresh=False)
        self._take_over(self._plan)
        for spec in planned_processes(self._plan):
            self._keeper.add(self._resizer.process(spec), spec)
        self._alarms.restore(facts.conditions)
        self._alarms.clear("Unguarded", self._plan.fleet)
        self._alarms.clear("Draining", self._plan.fleet)
        self._watch.take_over()
        found = adopt(facts, self._plan, self._cells, self._keeper, self._instances, self._listeners)
        for name in found.changed:
            self._keeper.restart(name)
        self._resizer.enforce()
        self._instances.spares.tidy(found.instances)
        self._listeners.keep_only([listen for spec in self._plan.processes for listen in spec.listen])
        self._watch_guard()
        self._logs.start()
        self._server.serve(self._operations.handle)
        self._store.announce()
        self._changed()
        if self._wish.read() == "down":
            self.stop(_nobody, "it was asked for before")
        self._tick()

    def run(self) -> int:
        """Serve until the fleet is stopped; returns the exit code."""
        return self.loop.run()

    def _take_over(self, plan: PlanFile) -> None:
        self._plan = plan
        self._gate.set_plan(plan)
        self._cells.set_pools(plan.pools)
        self._keeper.set_plan(plan)
        root = next((process.name for process in plan.processes if process.kind == "worker"), "")
        self._workers.set_plan(root, plan.workers)
        self._instances.set_agents(self._resizer.agents(plan.agents), plan.instance_uid_first)
        with suppress(OSError):  # who else may open it is asked for its user id and its name besides
            (Path(plan.run_dir) / SOCKET_NAME).chmod(0o666 if self._server.guests else 0o600)

    def _own_socket(self) -> Any:
        own = self._store.get(OWN_SOCKET)
        if own is None:
            own = bind_unix(Path(self._plan.run_dir) / SOCKET_NAME, 0o600)
            self._store.put(OWN_SOCKET, own)
        return own

    def _watch_guard(self) -> None:
        channel = self._store.channel
        if channel is None:
            return

        def on_packet(_events: int) -> None:
            packet = fds.receive(channel)
            if packet is None:
                self.loop.unwatch(channel.fileno())
                self._store.unguarded()
                self._alarms.raise_("Unguarded", self._plan.fleet, "the guard of sutazaid has ended")
                self.loop.after(0, self._become_guard)
            elif packet[0][:1] == ["reaped"]:
                self._reaper.told(int(packet[0][1]), int(packet[0][2]))

        self.loop.watch(channel.fileno(), READ, on_packet)

    def _become_guard(self) -> None:
        """Take the dead guard's place, in this process: the next ``sutazaid`` is its child, and adopts what runs."""
        pid_file = Path(self._plan.run_dir) / "guard.pid"
        if self._drain is not None and not pid_file.exists():
            return  # a stop has just cleared all away: nothing is left to be guarded
        self._save()
        say("the guard was killed: this process takes its place")
        try:
            replace_guard(self._plan_path, pid_file, self._lock_fd, self._store, self.loop.take_signals)
        except OSError as error:
            text = f"the guard of sutazaid has ended, and cannot be started: {error}"
            self._alarms.raise_("Unguarded", self._plan.fleet, text)

    # Going on

    def _tick(self) -> None:
        self.loop.after(TICK_MS, self._tick)
        self._watch.look(self._plan)
        self._keeper.calm()
        self._keeper.advance()
        self._instances.hosting.tick()
        if self._instances.waiting:
            self._instances.room()

    def _changed(self) -> None:
        """Something that the next ``sutazaid`` must know has changed: write it down at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self.loop.after(0, self._save)

    def _save(self) -> None:
        self._dirty = False
        if self._drain is None or self._keeper.units:
            Facts(
                boot_id=boot_id(),
                since_wall_ms=self._since_wall_ms,
                processes={name: unit.to_facts() for name, unit in self._keeper.units.items()},
                conditions=self._alarms.to_json(),
            ).save(self._facts_path)
        if self._rollout is not None:
            self._rollout.advance()

    def _on_closed(self, connection: Connection) -> None:
        if connection.process:
            self._instances.worker_lost(connection.process)

    # What the socket asks for

    @property
    def fleet_name(self) -> str:
        """Name of the fleet."""
        return self._plan.fleet

    @property
    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def set_queues(self, queues: dict[str, Any]) -> None:
        """Take the broker's queue depths."""
        self._watch.set_queues(queues)

    def status(self) -> dict[str, Any]:
        """Describe the fleet, see ``docs/reference/sutazaid-socket.md``."""
        changing = self._rollout is not None
        return {
            "fleet": self._plan.fleet,
            "state": status.fleet_state(self._parts, stopping=self._drain is not None, changing=changing),
            "since_wall_ms": self._since_wall_ms,
            "digest": self._plan.digest,
            "manifest": self._plan.manifest,
            **status.report(self._plan, self._parts, self._sampler),
            "queues": self._watch.queues,
            "acts": self._acts.to_json(),
            "resized": self._resizer.to_json(),
        }

    def change_plan(self, path: Path) -> dict[str, Any]:
        """Check a new plan and begin to apply it; a refused one changes nothing.

        Raises:
            ConfigError: it cannot be read, or cannot run here.
            RefusedError: the fleet is stopping, or another plan is being applied.
        """
        if self._drain is not None:
            raise RefusedError("the fleet is stopping")
        if self._rollout is not None:
            raise RefusedError("another plan is being applied; try again when the fleet is up")
        try:
            new = checked(PlanFile.load(path), self._plan, path)
        except ConfigError as error:
            self._alarms.raise_("PlanRefused", self._plan.fleet, str(error))
            raise
        self._alarms.clear("PlanRefused", self._plan.fleet)
        changes = diff(planned_processes(self._plan), planned_processes(new))
        if path.resolve() != self._plan_path.resolve():
            new.dump(self._plan_path)
        say(f"new plan {new.digest}: {changes.to_json()}")
        self._rollout = Rollout(self._keeper, self._listeners, changes, new)
        self._rollout.on_done = self._rolled_out
        resized = self._resizer.names
        self._resizer.take(new, fresh=True)
        self._take_over(new)
        self._resizer.undo([name for name in resized if name in changes.kept])
        self._rollout.start()
        for connection in self._server.all_named():
            connection.push("plan")
        self._changed()
        return changes.to_json()

    def _rolled_out(self) -> None:
        self._rollout = None
        self._cells.drop_left_pools()
        self._changed()

    # Stop

    def stop(self, then: Callable[[], None], why: str) -> None:
        """Stop everything; call back when nothing is left, then end."""
        self._on_stopped.append(then)
        if self._drain is not None:
            return
        self._wish.write("down")
        say(f"stopping the fleet: {why}")
        self._alarms.raise_("Draining", self._plan.fleet, "")
        self._drain = Drain(self._keeper, self._instances, lambda: self._clear_away(DESTROY_TRIES))
        self._drain.start()

    def _clear_away(self, tries: int) -> None:
        """No process is left: remove groups, sockets and notes, answer those who wait, and end."""
        import shutil  # here only: it costs half a megabyte that is needed once

        if not self._groups.destroy() and tries > 0:
            self.loop.after(100, lambda: self._clear_away(tries - 1))
            return
        self._listeners.drop([listen for spec in self._plan.processes for listen in spec.listen])
        self._keeper.units.clear()
        self._facts_path.unlink(missing_ok=True)
        self._resizer.forget()
        for callback in self._on_stopped:
            callback()
        (Path(self._plan.run_dir) / SOCKET_NAME).unlink(missing_ok=True)
        for folder in ("scratch", "llm", spares.NOTES):  # of processes that were killed before they could remove it
            shutil.rmtree(Path(self._plan.run_dir) / folder, ignore_errors=True)
        self._server.close()
        self._store.drop(OWN_SOCKET)
        if self._store.channel is None:  # the guard would have done it
            (Path(self._plan.run_dir) / "guard.pid").unlink(missing_ok=True)
            with suppress(OSError):
                Path(self._plan.run_dir).rmdir()
        say("the fleet is stopped")
        self.loop.stop(0)


def _nobody() -> None:
    """Nobody waits for the end of a stop that a signal or an earlier wish asked for."""
