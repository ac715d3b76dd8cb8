"""Why it exists: every process of the plan has one life, and one place that changes its state.

``waiting → starting → ready → (backoff → starting …) → stopping → stopped``; a job ends ``done``. The keeper starts
what the stages and the tickets allow, watches, ends whole trees, restarts with backoff, and tells the others through
``on_change``. It does not decide about the fleet: stop order is ``drain``'s, plan changes are ``swap``'s.
"""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.errors import HostError, NotFoundError, PortTakenError, RefusedError
from sutazai.host import procfs
from sutazai.ids import new_id
from sutazai.supervisor.contract import Restart
from sutazai.supervisor.loop import READ, Loop
from sutazai.supervisor.reaper import Exit, Reaper
from sutazai.supervisor.spawn import read_report
from sutazai.supervisor.stages import holding, startable, worker_processes
from sutazai.supervisor.unit import Unit
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import PlanFile, Process
    from sutazai.supervisor.facts import ProcessFacts
    from sutazai.supervisor.gate import Gate
    from sutazai.supervisor.health import Doctor
    from sutazai.supervisor.launch import Launcher

TRY_AGAIN_MS = 1_000
STARTING_MAX = max(2, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the keeper works with."""

    loop: Loop
    alarms: Alarms
    cells: Cells
    gate: Gate
    reaper: Reaper
    launcher: Launcher
    doctor: Doctor


class Keeper:
    """Keeps the plan's processes running.

    Attributes:
        units: all processes of the plan by name, members of the runtime pools among them.
        stages: names in order.
    """

    def __init__(self, tools: Tools, on_change: Callable[[], None]) -> None:
        self.units: dict[str, Unit] = {}
        self.stages: list[str] = []
        self._plan: PlanFile | None = None
        self._tools = tools
        self._on_change = on_change
        self._rule = Restart()
        self._frozen = False
        self.fork_member: Callable[[Unit], str] = lambda _unit: "there is no zygote"
        self.on_gone: Callable[[Unit], None] = lambda _unit: None

    # Which processes there are

    def set_plan(self, plan: PlanFile) -> None:
        """Take over a plan's order; units are added by ``add``."""
        self._plan = plan
        self.stages = plan.stages
        self._rule = plan.restart

    def add(self, spec: Process, planned: Process | None = None) -> Unit:
        """Take a process in, with the plan's own entry where that is another; it starts when the stages let it."""
        unit = Unit(spec, self._tools.cells.path(spec.pool, spec.name), planned=planned or spec)
        if spec.on_demand:
            unit.state, unit.wanted, unit.why = "stopped", False, ON_DEMAND
        self.units[spec.name] = unit
        return unit

    def forget(self, name: str) -> None:
        """Drop a stopped process and what was said about it."""
        del self.units[name]
        self._tools.alarms.clear_subject(name)
        self._on_change()

    def unit(self, name: str) -> Unit:
        """Find a process.

        Raises:
            NotFoundError: there is none of this name.
        """
        try:
            return self.units[name]
        except KeyError:
            raise NotFoundError(f"there is no process {name!r} in this fleet") from None

    def specs(self) -> list[Process]:
        """The plan's entries in the plan's order."""
        return [unit.spec for unit in self.units.values()]

    def all_through(self) -> bool:
        """Whether every stage has been passed."""
        return not holding(self.stages, self.specs(), {name: unit.standing for name, unit in self.units.items()})

    # Starting

    def freeze(self) -> None:
        """Start nothing any more: the fleet stops."""
        self._frozen = True

    @contextmanager
    def adopting(self) -> Iterator[None]:
        """Start nothing inside: one process that is taken over must not start the next one, which lives too."""
        before, self._frozen = self._frozen, True
        try:
            yield
        finally:
            self._frozen = before

    def advance(self) -> None:
        """Start what may start now; harmless at any time."""
        if self._frozen:
            return
        standings = {name: unit.standing for name, unit in self.units.items()}
        names = startable(self.stages, self.specs(), standings)
        names += [unit.name for unit in self.units.values() if unit.state == "waiting" and unit.begun]
        for name in dict.fromkeys(names):
            starting = sum(unit.state == "starting" for unit in self.units.values())
            if starting >= STARTING_MAX:
                return
            self._start(self.units[name])

    def _start(self, unit: Unit) -> None:
        tools, now_ms = self._tools, self._tools.loop.now_ms()
        if not unit.wanted or unit.not_before_ms > now_ms:
            return
        admission = tools.gate.ask_process(unit.spec)
        if not admission.ticket:
            self._hold(unit, admission.why)
            return
        unit.ticket = admission.ticket
        unit.exec_error = unit.doomed_by = ""
        try:
            if not unit.spec.argv:
                self._start_member(unit)
                return
            spawned = tools.launcher.launch(self._require_plan(), unit)
        except PortTakenError as error:
            self._release(unit)
            unit.failed_openly = True  # a change of the plan must not wait for somebody else's port
            tools.alarms.raise_("PortTaken", unit.name, str(error))
            self._hold(unit, str(error))
            return
        except (HostError, OSError) as error:
            self._release(unit)
            unit.last_exit = f"not started: {error}"
            tools.cells.end(unit.group, lambda: self._repair(unit))
            return
        tools.alarms.clear("PortTaken", unit.name)
        unit.report_fd = spawned.report_fd
        self.run(unit, spawned.pid)
        tools.loop.watch(spawned.report_fd, READ, lambda _events: self._on_report(unit))
        self._on_change()

    def _start_member(self, unit: Unit) -> None:
        self._tools.cells.ensure(unit.name, unit.group, unit.spec.limits)
        if why := self.fork_member(unit):
            self._release(unit)
            self._hold(unit, why)
            return
        unit.state, unit.begun, unit.why = "starting", True, "is loading"
        self._tools.doctor.await_ready(unit, lambda: None, lambda text: self._on_late(unit, text))

    def _hold(self, unit: Unit, why: str) -> None:
        unit.why = why
        unit.not_before_ms = self._tools.loop.now_ms() + TRY_AGAIN_MS

    def run(self, unit: Unit, pid: int) -> None:
        """A process of a unit exists and is in its group: watch it until it is ready, and until it ends."""
        tools = self._tools
        unit.pid = pid
        identity = procfs.identity(pid)
        unit.start_ticks = identity.start_ticks if identity is not None else 0
        unit.started_wall_ms = tools.loop.clock.wall_ms()
        unit.state, unit.begun, unit.why = "starting", True, ""
        tools.gate.bind(unit.ticket, pid)
        tools.reaper.watch(pid, lambda ended: self._on_exit(unit, pid, ended))
        tools.doctor.await_ready(unit, lambda: self.ready(unit), lambda text: self._on_late(unit, text))

    def _on_report(self, unit: Unit) -> None:
        if unit.report_fd < 0:
            return
        self._tools.loop.unwatch(unit.report_fd)
        unit.exec_error = read_report(unit.report_fd) or ""
        unit.report_fd = -1
        if not unit.exec_error and unit.spec.ready.kind == "none" and unit.state == "starting":
            self.ready(unit)

    def ready(self, unit: Unit) -> None:
        """It can be used."""
        if unit.state != "starting":
            return
        unit.cancel_timer("late")
        unit.cancel_timer("ready")
        unit.state, unit.failed_openly, unit.why = "ready", False, ""
        unit.ready_since_ms = self._tools.loop.now_ms()
        unit.health.failures = 0
        self._tools.alarms.clear("NotReady", unit.name)
        self._tools.doctor.watch_alive(unit, lambda text: self._on_unhealthy(unit, text))
        self._on_change()
        self.advance()

    def _on_late(self, unit: Unit, text: str) -> None:
        unit.failed_openly = True
        unit.cancel_timer("ready")
        if unit.check is not None:
            unit.check.cancel()
            unit.check = None
        self._tools.alarms.raise_("NotReady", unit.name, f"not ready after {unit.spec.ready.timeout_ms} ms: {text}")
        self._end(unit, f"not ready in time: {text}")
        self.advance()

    def _on_unhealthy(self, unit: Unit, text: str) -> None:
        if unit.spec.probe.restart:
            self._end(unit, f"unhealthy: {text}")

    # Ending

    def _end(self, unit: Unit, why: str) -> None:
        """Ask a running process to end, and make it end after its grace time."""
        tools = self._tools
        unit.doomed_by = unit.doomed_by or why
        unit.cancel_all()
        if not unit.pid:  # a member that never registered
            tools.cells.end(unit.group, lambda: self._gone(unit, Exit(None)))
            return
        unit.state = "stopping"
        tools.cells.groups.thaw(unit.group)
        tools.reaper.signal(unit.pid, unit.spec.stop_signal)
        unit.set_timer("kill", tools.loop.after(unit.spec.stop_grace_ms, lambda: self._kill(unit)))

    def _kill(self, unit: Unit) -> None:
        self._tools.cells.groups.kill(unit.group)
        self._tools.reaper.signal(unit.pid, 9)

    def _on_exit(self, unit: Unit, pid: int, ended: Exit) -> None:
        if unit.pid != pid:
            return
        self._on_report(unit)
        unit.cancel_all()
        usage = self._tools.cells.groups.usage(unit.group)
        unit.pid = unit.start_ticks = 0
        unit.state = "stopping"
        unit.last_exit = unit.exec_error or ended.words()
        unit.oom_kills += usage.oom_kills
        unit.oom = bool(usage.oom_kills)
        unit.peak_bytes = max(unit.peak_bytes, usage.memory_peak_bytes)
        if usage.oom_kills and not unit.doomed_by:
            unit.last_exit += (
                f": out of memory (peak {format_bytes(usage.memory_peak_bytes)} "
                f"of {format_bytes(unit.spec.limits.memory_bytes)})"
            )
            self._tools.alarms.raise_("OomKilled", unit.name, unit.last_exit)
        if unit.doomed_by:
            unit.last_exit += f" ({unit.doomed_by})"
        self._tools.cells.end(unit.group, lambda: self._gone(unit, ended))

    def _gone(self, unit: Unit, ended: Exit) -> None:
        """The whole tree has ended and its group is removed."""
        self._release(unit)
        self.on_gone(unit)
        unit.ready_since_ms = 0
        unit.health.last = None
        self._tools.alarms.clear("Unhealthy", unit.name)
        if not unit.wanted:
            self._stopped(unit)
        elif unit.spec.ready.kind == "exit" and ended.status == 0 and not unit.doomed_by:
            unit.state, unit.why = "done", ""
            self._tools.alarms.clear("NotReady", unit.name)
        elif unit.doomed_by == RESTART_ASKED:
            unit.restarts += 1
            unit.state, unit.not_before_ms = "waiting", 0
        else:
            self._repair(unit)
        self._on_change()
        self.advance()

    def _repair(self, unit: Unit) -> None:
        """Start it again after a pause; the more it fails, the longer."""
        tools = self._tools
        if not unit.wanted:
            self._stopped(unit)
            return
        rule = self._rule
        unit.failed(tools.loop.clock.wall_ms(), rule)
        unit.restarts += 1
        if unit.crash_loops(rule):
            unit.failed_openly = True
            ends = f"ended {len(unit.failures_wall_ms)} times in {rule.crash_loop_window_ms / 1_000:g} s"
            tools.alarms.raise_("CrashLoop", unit.name, f"{ends}: {unit.last_exit}")
        delay_ms = unit.backoff_ms(random.random(), rule)  # noqa: S311 jitter is no secret
        unit.state, unit.why = "backoff", f"starts again in {delay_ms} ms: {unit.last_exit}"
        unit.set_timer("restart", tools.loop.after(delay_ms, lambda: self._again(unit)))
        self._on_change()

    def _again(self, unit: Unit) -> None:
        unit.state, unit.begun, unit.not_before_ms = "waiting", True, 0
        self.advance()

    def _release(self, unit: Unit) -> None:
        if unit.ticket:
            self._tools.gate.release(unit.ticket)
            unit.ticket = ""

    def _stopped(self, unit: Unit) -> None:
        unit.state, unit.why = "stopped", ON_DEMAND if unit.spec.on_demand else ""
        waiting, unit.on_stopped = unit.on_stopped, []
        for callback in waiting:
            callback()

    # What others ask for

    def stop(self, names: Iterable[str], then: Callable[[], None]) -> None:
        """Stop processes for good; call back once when all are gone."""
        left = {name for name in names if self.units[name].state != "stopped"}
        if not left:
            self._tools.loop.after(0, then)
            return

        def stopped(name: str) -> None:
            left.discard(name)
            if not left:
                then()

        for name in list(left):
            unit = self.units[name]
            unit.wanted = False
            unit.on_stopped.append(lambda name=name: stopped(name))  # type: ignore[misc]
            if unit.state in {"starting", "ready"}:
                self._end(unit, "stopped")
            elif unit.state in {"waiting", "backoff", "done"}:
                unit.cancel_all()
                self._tools.gate.give_up(unit.spec)
                self._release(unit)
                self._tools.cells.end(unit.group, lambda unit=unit: self._stopped(unit))  # type: ignore[misc]

    def demand(self, name: str) -> None:
        """Somebody needs a process that runs on demand: start it, unless it runs, waits or is being stopped."""
        unit = self.unit(name)
        if unit.state == "stopped" and not self._frozen:
            unit.wanted = True
            self._again(unit)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the main process."""
        self._tools.reaper.signal(self.unit(name).pid, number)

    def restart(self, name: str) -> None:
        """Start a process anew, whatever it is doing; its past failures are forgotten."""
        unit = self.unit(name)
        if self._frozen or unit.on_stopped or (unit.state == "stopping" and not unit.wanted):
            raise RefusedError(f"{name} is being stopped; ask again when that is over")
        unit.failures_wall_ms.clear()
        self._tools.alarms.clear("CrashLoop", name)
        unit.wanted = True
        if unit.state in {"starting", "ready"}:
            self._end(unit, RESTART_ASKED)
        elif unit.state in {"backoff", "stopped", "done", "waiting"}:
            unit.cancel_timer("restart")
            self._again(unit)

    # What was running before, and what a new plan changes

    def adopt(self, unit: Unit, known: ProcessFacts) -> None:
        """Take a living process over, untouched."""
        tools = self._tools
        unit.pid, unit.start_ticks = known.pid, known.start_ticks
        unit.started_wall_ms, unit.begun, unit.wanted = known.started_wall_ms, True, True
        unit.ticket = known.ticket or new_id("k")
        tools.gate.rebuild_process(unit.spec, unit.ticket, unit.pid)
        tools.reaper.watch(unit.pid, lambda ended, pid=unit.pid: self._on_exit(unit, pid, ended))  # type: ignore[misc]
        unit.state = "starting"
        if known.ready:
            self.ready(unit)
        else:
            tools.doctor.await_ready(unit, lambda: self.ready(unit), lambda text: self._on_late(unit, text))

    def clean(self, unit: Unit) -> None:
        """End what is left in a unit's group, then let it start."""
        unit.state = "stopping"

        def cleaned() -> None:
            if unit.wanted:
                unit.state = "waiting"
                self.advance()
            else:
                self._stopped(unit)

        self._tools.cells.end(unit.group, cleaned)

    def admit(self, unit: Unit, pid: int) -> None:
        """Make sure that a process which exists already is in the books."""
        if not unit.ticket:
            unit.ticket = new_id("k")
            self._tools.gate.rebuild_process(unit.spec, unit.ticket, pid)

    def replace(self, name: str, spec: Process) -> None:
        """Give a stopped process its new entry of the plan, and let it start."""
        unit = self.unit(name)
        unit.spec = unit.planned = spec
        unit.group = self._tools.cells.path(spec.pool, spec.name)
        unit.failed_openly = False
        unit.failures_wall_ms.clear()
        if spec.on_demand:
            unit.why = ON_DEMAND
            return
        unit.wanted = True
        self._again(unit)

    def reorder(self, names: list[str]) -> None:
        """Bring the processes into the plan's order."""
        self.units = {name: self.units[name] for name in names if name in self.units}

    def calm(self) -> None:
        """Each tick: take back a crash loop that is over."""
        now_wall_ms = self._tools.loop.clock.wall_ms()
        for unit in self.units.values():
            unit.forget_old_failures(now_wall_ms, self._rule)
            if unit.state == "ready" and not unit.crash_loops(self._rule):
                self._tools.alarms.clear("CrashLoop", unit.name)

    def _require_plan(self) -> PlanFile:
        if self._plan is None:
            raise HostError("there is no plan yet")
        return self._plan


RESTART_ASKED = "restart was asked for"
ON_DEMAND = "starts when it is needed"


def planned_processes(plan: PlanFile) -> list[Process]:
    """All processes of a plan, members of the runtime pools among them, each stage's members after its own."""
    return [*plan.processes, *worker_processes(plan)]
