"""Why it exists: the next ``sutazaid`` takes over what runs, and must never take a stranger for its own.

A process is adopted when the kernel agrees with the remembered facts three times: the pid lives (no zombie), it started
at that tick, and it is in the remembered group. Everything else in the fleet's groups that nobody knows is ended, so
that no process runs without a ticket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.host import procfs
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from sutazai.host.cgroup import Groups
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.facts import Facts, ProcessFacts
    from sutazai.supervisor.instances import Instances
    from sutazai.supervisor.keeper import Keeper
    from sutazai.supervisor.listeners import Listeners


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was found.

    Attributes:
        processes: names that go on untouched.
        changed: names that go on, but from another entry of the plan: they are to be restarted.
        instances: tickets that go on.
        ended: groups whose content nobody knew.
    """

    processes: tuple[str, ...]
    changed: tuple[str, ...]
    instances: tuple[str, ...]
    ended: tuple[str, ...]


def lives(groups: Groups, facts: ProcessFacts) -> bool:
    """Whether the remembered process is still that process, in its group."""
    if facts.pid <= 0 or not procfs.is_alive(procfs.Identity(facts.pid, facts.start_ticks)):
        return False
    return facts.pid in groups.pids(facts.cgroup)


def adopt(
    facts: Facts, plan: PlanFile, cells: Cells, keeper: Keeper, instances: Instances, listeners: Listeners
) -> Adopted:
    """Take over all that lives and is known; end all that lives and is not. Starts nothing."""
    with keeper.adopting():
        result = _take_over(facts, plan, cells, keeper, instances, listeners)
    if result.processes or result.instances or result.ended:
        say(
            f"adopted {len(result.processes)} processes and {len(result.instances)} instances, "
            f"ended {len(result.ended)} unknown groups {list(result.ended) or ''}"
        )
    return result


def _take_over(
    facts: Facts, plan: PlanFile, cells: Cells, keeper: Keeper, instances: Instances, listeners: Listeners
) -> Adopted:
    processes, changed = [], []
    for name, known in facts.processes.items():
        unit = keeper.units.get(name)
        if unit is None:
            continue
        unit.restarts = known.restarts
        unit.oom_kills, unit.peak_bytes = known.oom_kills, known.peak_bytes
        unit.failures_wall_ms = list(known.failures_wall_ms)
        unit.last_exit = known.last_exit
        if known.cgroup == unit.group and lives(cells.groups, known):
            keeper.adopt(unit, known)
            listeners.recover(unit.spec, unit.pid)
            processes.append(name)
            if known.spec != unit.digest:
                changed.append(name)
        elif known.ready and not known.pid and unit.spec.ready.kind == "exit" and known.spec == unit.digest:
            unit.state = "done"
        elif known.pid:
            unit.last_exit = "ended while sutazaid was away"
            unit.restarts += 1
    instances.hosting.rebuild()
    ended = _sort_groups(plan, cells, keeper, instances)
    return Adopted(tuple(processes), tuple(changed), tuple(instances.live), tuple(ended))


def _sort_groups(plan: PlanFile, cells: Cells, keeper: Keeper, instances: Instances) -> list[str]:
    """Look at every group of the fleet: an adopted process, an instance, or to be ended."""
    groups = cells.groups
    pool_paths = {cells.pool_path(pool.name) for pool in plan.pools}
    units = {unit.group: unit for unit in keeper.units.values()}
    ended = []
    todo = [""]
    while todo:
        parent = todo.pop()
        for name in groups.children(parent):
            path = f"{parent}/{name}" if parent else name
            if path in pool_paths:
                todo.append(path)
                continue
            unit = units.get(path)
            if unit is not None and unit.pid:
                continue
            if unit is None and parent and instances.rebuild(path, name):
                continue
            if groups.usage(path).populated:
                ended.append(path)
            if unit is not None:
                keeper.clean(unit)
            else:
                cells.end(path, _nothing)
    return ended


def _nothing() -> None:
    """Nobody waits for a stranger's end."""
