"""Why it exists: a move into a cgroup waits for a grace period of the kernel, 10 ms and more; it is waited for ahead.

A worker keeps a **spare**: a child that was forked when nothing was to do. It offers it here, and the spare gets a
ticket, a group below the pool where it will probably be needed, and the limits of the agent that was woken there last.
A wake whose agent fits takes ticket, group and process as they are; any other wake goes the ordinary way. A spare is
the first that is ended when memory is short, and counts as no instance.

A group cannot be renamed once it is needed, so a link in the run folder says whose it became: ``tickets/<ticket>`` →
agent. It is written before the process may begin; a spare's group without a link belongs to nobody and is ended.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sutazai.errors import HostError, ProtocolError
from sutazai.host import procfs
from sutazai.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import Agent, Limits
    from sutazai.supervisor.gate import Gate
    from sutazai.supervisor.lines import Request
    from sutazai.supervisor.loop import Loop
    from sutazai.supervisor.reaper import Reaper
    from sutazai.supervisor.slots import Slots
    from sutazai.supervisor.workers import Workers

GROUP_PREFIX = "Spare"  # no agent may have this name: theirs are lower case
NOTES = "tickets"


@dataclass(slots=True)
class Spare:
    """One process that waits for an agent, in the group that the agent will have.

    Attributes:
        ticket: its admission, and later the instance's.
        worker: who forked it.
        pid: of the process.
        pool: memory pool.
        limits: of its group.
        group: path of its cgroup.
        slot: uid that is kept for it, 0 when none is dropped.
        state: of its life.
    """

    ticket: str
    worker: str
    pid: int
    pool: str
    limits: Limits
    group: str
    slot: int
    state: Literal["placing", "ready", "ending"] = "placing"


@dataclass(frozen=True, slots=True)
class SpareTools:
    """What ``Spares`` works with."""

    loop: Loop
    cells: Cells
    gate: Gate
    reaper: Reaper
    workers: Workers
    notes: Path


class Spares:
    """All spares that are placed, or are being placed.

    Args:
        tools: of the supervisor.
        slots: user ids.

    Attributes:
        notes: folder of the links that say whose a ticket is.
    """

    def __init__(self, tools: SpareTools, slots: Slots) -> None:
        self._tools = tools
        self._slots = slots
        self.notes = tools.notes
        self._spares: dict[str, Spare] = {}
        self._agents: list[Agent] = []
        self._recent: dict[str, int] = {}
        self._closed = False

    def set_agents(self, agents: list[Agent]) -> None:
        """Take over a plan; spares that fit none of its pools are ended."""
        self._agents = agents
        for spare in list(self._spares.values()):
            kinds = self._kinds(spare.worker)
            home = (spare.pool, spare.limits.cpuset)
            if home not in kinds or self._tools.cells.path(spare.pool, _name(spare.ticket)) != spare.group:
                self.end(spare)

    def to_json(self) -> list[dict[str, Any]]:
        """Describe all spares, for the status."""
        return [
            {
                "ticket": spare.ticket,
                "worker": spare.worker,
                "pool": spare.pool,
                "pid": spare.pid,
                "state": spare.state,
                "group": spare.group,
            }
            for spare in self._spares.values()
        ]

    # Offers

    def offer(self, request: Request) -> None:
        """A worker has forked a spare: place it if one is wanted; the answer says so when it is done.

        Raises:
            ProtocolError: it names no process.
        """
        worker, pid = request.connection.process, request.number("pid", 0)
        if pid <= 0 or procfs.identity(pid) is None:
            raise ProtocolError("spare: 'pid' is no living process")
        if known := [each for each in self._spares.values() if each.pid == pid]:  # over a connection that broke
            self.end(known[0])
            request.reply(placed=False, more=False, ended=True)
            return
        agent = self._wanted(worker)
        if agent is None or not self._slots.has_room():
            request.reply(placed=False, more=False)
            return
        ticket = new_id("k")
        group = self._tools.cells.path(agent.pool, _name(ticket))
        if not self._tools.gate.ask_spare(worker, agent.pool, ticket):
            request.reply(placed=False, more=False)
            return
        spare = Spare(ticket, worker, pid, agent.pool, agent.limits, group, self._slots.take())
        self._spares[ticket] = spare
        try:
            self._tools.cells.groups.ensure(group, agent.limits)
        except HostError:
            self._placed(spare, request, "its group cannot be made")
            return
        threading.Thread(target=self._place, args=(spare, request), name="place-spare", daemon=True).start()

    def _place(self, spare: Spare, request: Request) -> None:
        """Wait for the kernel in a thread of its own."""
        error = ""
        try:
            self._tools.cells.groups.place(spare.group, spare.pid)
        except (HostError, OSError) as refused:
            error = str(refused)
        self._tools.loop.post(lambda: self._placed(spare, request, error))

    def _placed(self, spare: Spare, request: Request, error: str) -> None:
        is_wanted = spare.state == "placing" and self._spares.get(spare.ticket) is spare
        if error or not is_wanted:
            self.end(spare)
            request.reply(placed=False, more=False)
            return
        spare.state = "ready"
        self._tools.reaper.watch(spare.pid, lambda _ended: self.end(spare))
        request.reply(placed=True, more=self._wanted(spare.worker) is not None)

    def _kinds(self, worker: str) -> dict[tuple[str, str], Agent]:
        """Pools and sets of cores that a worker's agents live in, each with the agent that was woken last."""
        family = self._tools.workers.family_of(worker)
        kinds: dict[tuple[str, str], Agent] = {}
        for agent in sorted(self._agents, key=lambda each: -self._recent.get(each.name, 0)):
            if agent.family == family:
                kinds.setdefault((agent.pool, agent.limits.cpuset), agent)
        return kinds

    def _wanted(self, worker: str) -> Agent | None:
        """Say for whom a worker should have another spare."""
        if self._closed or self._tools.cells.groups.version == "none":
            return None
        have = {(each.pool, each.limits.cpuset) for each in self._spares.values() if each.worker == worker}
        return next((agent for kind, agent in self._kinds(worker).items() if kind not in have), None)

    # Use

    def take(self, agent: Agent, workers: Iterable[str]) -> Spare | None:
        """Give away a spare that an agent can have; its ticket is free to be asked for by the instance."""
        self._recent[agent.name] = self._tools.loop.now_ms()
        allowed = set(workers)
        for spare in self._spares.values():
            fits = (spare.pool, spare.limits.cpuset) == (agent.pool, agent.limits.cpuset)
            if spare.state == "ready" and fits and spare.worker in allowed:
                del self._spares[spare.ticket]
                self._tools.reaper.forget(spare.pid)
                self._tools.gate.take_back(spare.ticket)
                return spare
        return None

    def note(self, ticket: str, agent: str) -> None:
        """Write down whose the group of a ticket is.

        Raises:
            OSError: it cannot be written.
        """
        self._tools.notes.mkdir(mode=0o700, exist_ok=True)
        (self._tools.notes / ticket).symlink_to(agent)

    def forget(self, ticket: str) -> None:
        """The group of a ticket is gone."""
        with suppress(OSError):
            (self._tools.notes / ticket).unlink()

    def tidy(self, live: Iterable[str]) -> None:
        """Forget the notes of an earlier ``sutazaid`` whose instances are gone."""
        kept = set(live)
        with suppress(OSError):
            for note in list(self._tools.notes.iterdir()):
                if note.name not in kept:
                    self.forget(note.name)

    def agent_of(self, name: str) -> str:
        """Say whose the group of this name is; empty when it is nobody's."""
        prefix, _, ticket = name.rpartition(".")
        if prefix != GROUP_PREFIX:
            return prefix
        try:
            return os.readlink(self._tools.notes / ticket)  # noqa: PTH115 a name, not a path
        except OSError:
            return ""

    # Ends

    def end(self, spare: Spare) -> None:
        """End a spare, placed or not, with its group and its ticket."""
        if spare.state == "ending":
            return
        spare.state = "ending"
        self._tools.reaper.forget(spare.pid)
        self._spares.pop(spare.ticket, None)
        self._tools.cells.end(spare.group, lambda: self._gone(spare))

    def end_all(self) -> None:
        """Give the memory of all spares back: somebody waits for it."""
        for spare in list(self._spares.values()):
            self.end(spare)

    def close(self) -> None:
        """The fleet stops: end all, take none any more."""
        self._closed = True
        self.end_all()

    def worker_lost(self, worker: str) -> None:
        """A worker's connection has closed: its spares end by themselves, or are ended now."""
        for spare in list(self._spares.values()):
            if spare.worker == worker:
                self.end(spare)

    def _gone(self, spare: Spare) -> None:
        self._slots.give_back(spare.slot)
        self._tools.gate.release(spare.ticket)


def _name(ticket: str) -> str:
    return f"{GROUP_PREFIX}.{ticket}"
