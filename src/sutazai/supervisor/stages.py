"""Why it exists: what may start now is a pure decision over the plan and the states, apart from starting it.

Stages come in the plan's order; a stage begins when the one before is through. A process waits besides for those it
names in ``after``. A stage is through when each of its processes is ready, is a job that is done, or is a ``service``
that has failed openly (a condition tells): a user's broken program must not keep the whole fleet down. Restarts are not
gated: the order matters for coming up, not for repair.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sutazai.supervisor.contract import PlanFile, Process, Ready, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTING_READY_MS = 30_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
State = Literal["waiting", "starting", "ready", "backoff", "stopping", "stopped", "done"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one process is.

    Attributes:
        state: of its life.
        failed_openly: it could not become ready, and a condition says so.
    """

    state: State
    failed_openly: bool = False

    @property
    def usable(self) -> bool:
        """Whether others can build on it."""
        return self.state in {"ready", "done"}


def through(process: Process, standing: Standing) -> bool:
    """Whether a process no longer holds its stage."""
    return standing.usable or standing.state == "stopped" or (process.kind == "service" and standing.failed_openly)


def startable(stages: list[str], processes: list[Process], standings: Mapping[str, Standing]) -> list[str]:
    """Name the waiting processes that may be started now, in the plan's order."""
    for stage in stages:
        members = [process for process in processes if process.stage == stage]
        waiting = [
            process.name
            for process in members
            if standings[process.name].state == "waiting"
            and all(name not in standings or standings[name].usable for name in process.after)
        ]
        if waiting:
            return waiting
        if not all(through(process, standings[process.name]) for process in members):
            return []
    return []


def holding(stages: list[str], processes: list[Process], standings: Mapping[str, Standing]) -> list[str]:
    """Name the processes that the first unfinished stage waits for."""
    for stage in stages:
        open_ones = [p.name for p in processes if p.stage == stage and not through(p, standings[p.name])]
        if open_ones:
            return open_ones
    return []


def stop_order(stages: list[str], processes: list[Process]) -> list[list[str]]:
    """Groups of processes to stop one after the other: stages backwards, inside a stage dependents first."""
    groups: list[list[str]] = []
    for stage in reversed(stages):
        left = {process.name: process for process in processes if process.stage == stage}
        while left:
            needed = {name for process in left.values() for name in process.after}
            group = [name for name in left if name not in needed] or list(left)
            groups.append(group)
            for name in group:
                del left[name]
    return groups


def mistakes(plan: PlanFile) -> list[str]:
    """Find what makes a plan impossible to run, all at once; empty when nothing does."""
    processes = worker_processes(plan) + plan.processes
    names = [process.name for process in processes]
    found = [f"the name {name!r} is used twice" for name in sorted({name for name in names if names.count(name) > 1})]
    every = [plan.fleet, *names, *(pool.name for pool in plan.pools), *(agent.name for agent in plan.agents)]
    found += [f"{name!r} is no name: write letters, digits, '.', '-' and '_'" for name in every if not _is_name(name)]
    found += _pool_mistakes(plan, processes)
    found += _order_mistakes(plan, processes)
    started: list[Process | Worker] = [*plan.processes, *(worker for worker in plan.workers if worker.hosts)]
    for each in started:
        if not each.argv or not each.argv[0].startswith("/"):
            found.append(f"{each.name}: argv must begin with the absolute path of a program")
    taken: dict[tuple[str, int, str], str] = {}
    for process in plan.processes:
        for listen in process.listen:
            other = taken.setdefault((listen.host, listen.port, listen.path), process.name)
            if other != process.name:
                found.append(f"{process.name}: {other} listens on {listen.path or listen.port} already")
    return found


def _is_name(text: str) -> bool:
    """Whether it can be the name of a group and of a log file."""
    return _NAME.fullmatch(text) is not None


def _pool_mistakes(plan: PlanFile, processes: list[Process]) -> list[str]:
    pools = {pool.name for pool in plan.pools}
    found = [
        f"pool {pool.name}: its parent {pool.parent!r} does not exist"
        for pool in plan.pools
        if pool.parent and pool.parent not in pools
    ]
    found += _cycles({pool.name: [pool.parent] if pool.parent else [] for pool in plan.pools})
    named = [(process.name, process.pool) for process in processes] + [
        (agent.name, agent.pool) for agent in plan.agents
    ]
    return found + [f"{name}: there is no pool {pool!r}" for name, pool in named if pool not in pools]


def _order_mistakes(plan: PlanFile, processes: list[Process]) -> list[str]:
    found = [f"{p.name}: there is no stage {p.stage!r}" for p in processes if p.stage not in plan.stages]
    names = {process.name for process in processes}
    place = {process.name: plan.stages.index(process.stage) for process in processes if process.stage in plan.stages}
    for process in processes:
        for name in process.after:
            if name not in names:
                found.append(f"{process.name}: starts after {name!r}, which does not exist")
            elif place.get(process.name, 0) < place.get(name, 0):
                found.append(f"{process.name}: starts after {name!r}, which is of a later stage")
    return found + _cycles({process.name: process.after for process in processes})


def _cycles(after: dict[str, list[str]]) -> list[str]:
    left = dict(after)
    while left:
        free = [name for name, needs in left.items() if not any(need in left for need in needs)]
        if not free:
            return [f"these depend on one another: {', '.join(sorted(left))}"]
        for name in free:
            del left[name]
    return []


def worker_processes(plan: PlanFile) -> list[Process]:
    """Describe the members of the runtime pools as processes, so that one lifecycle serves all.

    Those that the root zygote forks have no argument vector; all register instead of saying ``ready``.
    """
    root = next((process for process in plan.processes if process.kind == "worker"), None)
    stage = root.stage if root is not None else plan.stages[-1]
    hosting = [_hosting_process(worker, stage) for worker in plan.workers if worker.hosts]
    if root is None:
        return hosting
    return hosting + [
        Process(
            name=worker.name,
            kind="worker",
            argv=[],
            pool=worker.pool,
            stage=root.stage,
            limits=worker.limits,
            envelope_bytes=worker.envelope_bytes,
            env={"SUTAZAI_FAMILY": worker.family, "SUTAZAI_PRELOAD": ",".join(worker.preload)},  # a change must show
            after=[root.name],
            ready=Ready("notify", timeout_ms=root.ready.timeout_ms),
            oom_score_adj=root.oom_score_adj,
            protected=root.protected,
        )
        for worker in plan.workers
        if not worker.hosts
    ]


def _hosting_process(worker: Worker, stage: str) -> Process:
    """Describe one that is started by its argument vector, when somebody needs it."""
    return Process(
        name=worker.name,
        kind="worker",
        argv=worker.argv,
        pool=worker.pool,
        stage=stage,
        limits=worker.limits,
        envelope_bytes=worker.envelope_bytes,
        env={**worker.env, "SUTAZAI_WORKER": worker.name},
        ready=Ready("notify", timeout_ms=HOSTING_READY_MS),
        uid=worker.uid,
        on_demand=True,
    )
