"""Why it exists: one process of another language holds many instances, and each still has a ticket, a start and an end.

A hosting worker (Node, Go) is started when the first of its agents is woken, and stopped when it has held none for a
while. Its instances live in its group: the group's limit grows and shrinks with them. What the worker says over the
socket (``hosted``, ``ended``, ``hosting``) takes the place of forks and exit statuses. A link in the run folder,
``tickets/<ticket>`` → ``agent@worker``, tells the next ``sutazaid`` which instances live.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from sutazai.errors import HostError, NotFoundError, ProtocolError
from sutazai.governor.snapshot import held_bytes
from sutazai.ids import new_id
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.supervisor.contract import Agent
    from sutazai.supervisor.instances import Instance, Instances, InstanceTools
    from sutazai.supervisor.lines import Connection, Request
    from sutazai.supervisor.slots import Tokens
    from sutazai.supervisor.unit import Unit

HOST_WAIT_MS = 10_000  # a Node thread that imports its agent; it is ready to be asked before that
END_WAIT_MS = 2_000
#: Instances of one worker before a second one of its family is started.
HOSTED_BEFORE_NEXT = 8
REASONS = ("ok", "error", "oom")
ROOM_ABOVE_USE = 1.1
WHY_CHARACTERS_MAX = 1_000


class Hosting:
    """The hosted part of all instances.

    Args:
        instances: where they stand with the forked ones.
        tools: of the supervisor.
        tokens: secrets of tickets.
        notes: folder of the links.
    """

    def __init__(self, instances: Instances, tools: InstanceTools, tokens: Tokens, notes: Path) -> None:
        self._instances = instances
        self._tools = tools
        self._tokens = tokens
        self._notes = notes
        self._idle_since_ms: dict[str, int] = {}
        tools.workers.on_host_gone = self.worker_gone

    def of_worker(self, name: str) -> Iterator[Instance]:
        """All instances that a worker holds."""
        return iter([each for each in self._instances.live.values() if each.hosted and each.worker == name])

    def bytes_in(self, name: str) -> tuple[int, int]:
        """Limits and envelopes of a worker's instances, each added up."""
        held = list(self.of_worker(name))
        return sum(each.agent.limits.memory_bytes for each in held), sum(each.agent.envelope_bytes for each in held)

    # Waking

    def wake(self, agent: Agent) -> tuple[str, str]:
        """Host one more instance of an agent; gives its ticket, or why it has to wait."""
        tools = self._tools
        ready = tools.workers.for_family(agent.family)
        counts = Counter(each.worker for each in self._instances.live.values())
        if not any(counts[name] < HOSTED_BEFORE_NEXT for name, _ in ready):
            why = tools.workers.demand(agent.family)
            if not ready:
                return "", why
        ticket = new_id("k")
        admission = tools.gate.ask_instance(agent, ticket)
        if not admission.ticket:
            if admission.short:
                tools.alarms.raise_("ResourceExhausted", agent.name, admission.why)
            return "", admission.why
        name, connection = min(ready, key=lambda each: counts[each[0]])
        instance = self._instances.begin_hosted(ticket, agent, name)
        if why := self._host(instance, connection):
            self._instances.fork_has_failed(instance, why)
            return "", why
        return ticket, ""

    def _host(self, instance: Instance, connection: Connection) -> str:
        agent = instance.agent
        try:
            self._fit(instance.worker)
            self._notes.mkdir(mode=0o700, exist_ok=True)
            (self._notes / instance.ticket).symlink_to(f"{agent.name}@{instance.worker}")
        except (HostError, OSError) as error:
            return str(error)
        instance.timer = self._tools.loop.after(HOST_WAIT_MS, lambda: self._unanswered(instance))
        connection.push(
            "host",
            ticket=instance.ticket,
            agent=agent.name,
            token=self._tokens.of(instance.ticket),
            module=agent.module,
            memory_bytes=agent.limits.memory_bytes,
            keep_ms=agent.keep_ms,
            settings=agent.settings,
        )
        return ""

    def _unanswered(self, instance: Instance) -> None:
        self._push_end(instance, 0)
        self._instances.fork_has_failed(instance, f"no answer from {instance.worker} in {HOST_WAIT_MS} ms")

    def hosted(self, request: Request) -> None:
        """A worker has begun an instance.

        Raises:
            NotFoundError: the ticket is over; the worker is told to end it.
            ProtocolError: the ticket is another worker's, or the pid is not the worker's own.
        """
        ticket = request.text("ticket")
        instance = self._instances.live.get(ticket)
        if instance is None or instance.state != "forking":
            if instance is None:
                request.connection.push("end", ticket=ticket, grace_ms=0)
            raise NotFoundError("this ticket is over")
        unit = self._unit_of(instance, request)
        if request.number("pid", unit.pid) != unit.pid:
            raise ProtocolError(f"hosted: the pid of {unit.name} is {unit.pid}")
        self._instances.runs(instance, unit.pid, unit.spec.uid if unit.spec.uid >= 0 else os.geteuid())
        request.reply()

    def _unit_of(self, instance: Instance, request: Request) -> Unit:
        unit = self._tools.workers.unit(instance.worker)
        if not instance.hosted or request.connection.process != instance.worker or unit is None:
            raise ProtocolError(f"this ticket was given to {instance.worker}")
        return unit

    # Ending

    def end(self, instance: Instance, why: str, *, own: bool, grace_ms: int) -> None:
        """Ask the worker to end an instance; a worker that does not is ended itself."""
        instance.doomed_by, instance.own = why, own
        self._push_end(instance, grace_ms)
        if instance.timer is not None:
            instance.timer.cancel()
        instance.timer = self._tools.loop.after(max(0, grace_ms) + END_WAIT_MS, lambda: self._end_worker(instance))

    def _push_end(self, instance: Instance, grace_ms: int) -> None:
        connection = self._tools.server.named(instance.worker)
        if connection is not None:
            connection.push("end", ticket=instance.ticket, grace_ms=max(0, grace_ms))

    def _end_worker(self, instance: Instance) -> None:
        unit = self._tools.workers.unit(instance.worker)
        if instance.ticket in self._instances.live and unit is not None and unit.pid:
            say(f"{instance.worker} does not end {instance.agent.name} ({instance.ticket}): it is killed", "warning")
            self._tools.cells.groups.kill(unit.group)
            self._tools.reaper.signal(unit.pid, 9)

    def ended(self, request: Request) -> None:
        """An instance has ended inside its worker.

        Raises:
            NotFoundError: the ticket is over.
            ProtocolError: the ticket is another worker's, or the reason is unknown.
        """
        instance = self._instances.live.get(request.text("ticket"))
        if instance is None or instance.state == "ending":
            raise NotFoundError("this ticket is over")
        self._unit_of(instance, request)
        reason = request.text("reason")
        if reason not in REASONS:
            raise ProtocolError(f"ended: {reason!r} is no reason; there are {', '.join(REASONS)}")
        request.reply()
        why = str(request.body.get("why", ""))[:WHY_CHARACTERS_MAX]
        if instance.doomed_by:
            reason, why = "killed", instance.doomed_by
        elif reason == "oom":
            text = f"an instance went over its {instance.agent.limits.memory_bytes} bytes in {instance.worker}"
            self._tools.alarms.raise_("OomKilled", instance.agent.name, text)
        self._instances.has_ended(instance, reason, request.number("status", 0 if reason == "ok" else 1), why)

    def worker_gone(self, unit: Unit) -> None:
        """A worker's process has ended, and its group is empty: so have all its instances."""
        held = list(self.of_worker(unit.name))
        for instance in held:
            reason, why = "killed", f"its worker {unit.name} has ended: {unit.last_exit}"
            if instance.doomed_by:
                why = instance.doomed_by
            elif unit.oom and len(held) == 1:
                reason = "oom"
                self._tools.alarms.raise_("OomKilled", instance.agent.name, f"{unit.name} was killed for its memory")
            else:
                instance.own = False
            self._instances.has_ended(instance, reason, -9, why)

    def freed(self, instance: Instance) -> None:
        """An instance's ticket is given back: its note goes, and its share of the worker's limit."""
        with suppress(OSError):
            (self._notes / instance.ticket).unlink()
        with suppress(HostError):
            self._fit(instance.worker)

    def _fit(self, worker: str) -> None:
        """Set the worker's limit to its own need and its instances', and never below what it holds now."""
        unit = self._tools.workers.unit(worker)
        if unit is None or not unit.pid or not unit.spec.limits.memory_bytes:
            return
        cells = self._tools.cells
        wanted = unit.spec.limits.memory_bytes + self.bytes_in(worker)[0]
        holds = int(held_bytes(cells.groups.usage(unit.group)) * ROOM_ABOVE_USE)
        cells.ensure(worker, unit.group, replace(unit.spec.limits, memory_bytes=max(wanted, holds)))

    # Going on

    def tick(self) -> None:
        """Each tick: shrink the limits of workers, and stop those that have had nothing to do for a while."""
        now_ms = self._tools.loop.now_ms()
        for worker, unit in self._tools.workers.hosting():
            if unit.state != "ready" or any(self.of_worker(worker.name)):
                self._idle_since_ms.pop(worker.name, None)
                continue
            since_ms = self._idle_since_ms.setdefault(worker.name, now_ms)
            with suppress(HostError):
                self._fit(worker.name)
            if now_ms - since_ms >= worker.idle_ms and not self._instances.stopping:
                say(f"{worker.name} has held no instance for {worker.idle_ms} ms: it is stopped")
                self._tools.workers.rest(worker.name)

    # After a restart of sutazaid, or of a connection

    def reported(self, request: Request) -> None:
        """A worker says what it holds: the rest has ended meanwhile, and what is not known here is to end.

        Raises:
            ProtocolError: it is no hosting worker, or the list is none.
        """
        name, tickets = request.connection.process, request.body.get("tickets")
        if not isinstance(tickets, list) or not all(isinstance(each, dict) for each in tickets):
            raise ProtocolError("hosting: 'tickets' must be a list of objects")
        if all(worker.name != name for worker, _ in self._tools.workers.hosting()):
            raise ProtocolError(f"hosting: {name or 'this connection'} is no hosting worker")
        request.reply()
        held = {str(each.get("ticket")) for each in tickets}
        known = {each.ticket: each for each in self.of_worker(name)}
        for ticket in held - known.keys():
            request.connection.push("end", ticket=ticket, grace_ms=0)
        for ticket, instance in known.items():
            if ticket not in held and instance.state != "forking":
                instance.own = False
                self._instances.has_ended(instance, "error", -1, "it ended while sutazaid was away")
            elif instance.doomed_by:
                self._push_end(instance, 0)

    def rebuild(self) -> None:
        """Take over the instances that an earlier ``sutazaid`` had placed in workers that live on."""
        self.tell_limits({}, self._instances.agents)
        for note in self._noted():
            name, _, worker = os.readlink(note).partition("@")  # noqa: PTH115 names, not a path
            agent, unit = self._instances.agents.get(name), self._tools.workers.unit(worker)
            if worker and agent is not None and unit is not None and unit.pid:
                self._tools.gate.rebuild_instance(agent, note.name, unit.pid)
                instance = self._instances.begin_hosted(note.name, agent, worker)
                instance.state, instance.pid = "running", unit.pid
                instance.uid = unit.spec.uid if unit.spec.uid >= 0 else os.geteuid()
                instance.started_wall_ms = unit.started_wall_ms

    def _noted(self) -> list[Path]:
        with suppress(OSError):
            return [note for note in self._notes.iterdir() if note.is_symlink()]
        return []

    def tell_limits(self, before: dict[str, Agent], agents: dict[str, Agent]) -> None:
        """Say of which agents the kernel holds only their worker's limits."""
        for name in before.keys() - agents.keys():
            self._tools.alarms.clear("LimitNotEnforced", name)
        for agent in agents.values():
            if self._tools.workers.hosts(agent.family):
                text = "memory, cpu: its instances share the group of their worker; the kernel limits that as a whole"
                self._tools.alarms.raise_("LimitNotEnforced", agent.name, text)
