"""Why it exists: an agent occupies memory only by a ticket, inside its own group, and its end is never missed.

One instance: ticket → fork by a worker (the child blocks on a pipe) → group → placed → released → watched → ended with
all it forked → group removed → ticket freed. The broker hears of the beginning and of the end. Nothing about it is
written to disk: the group's name says agent and ticket, the token is computed from the ticket.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sutazai.errors import HostError, NotFoundError, ProtocolError
from sutazai.host import procfs
from sutazai.ids import new_id
from sutazai.supervisor.hosting import Hosting
from sutazai.supervisor.spares import GROUP_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import Agent
    from sutazai.supervisor.gate import Gate
    from sutazai.supervisor.lines import Connection, LineServer, Request
    from sutazai.supervisor.loop import Loop, Timer
    from sutazai.supervisor.reaper import Exit, Reaper
    from sutazai.supervisor.slots import Slots, Tokens
    from sutazai.supervisor.spares import Spares
    from sutazai.supervisor.workers import Workers

FORK_WAIT_MS = 5_000
TERM_GRACE_MS = 2_000
CHANGE_GRACE_MS = 10_000
BROKER = "broker"
SIGTERM, SIGKILL = 15, 9


@dataclass(slots=True)
class Instance:
    """One agent in memory.

    Attributes:
        ticket: its admission, also the key.
        agent: what the plan says.
        worker: who forked it.
        group: path of its cgroup.
        slot: uid that is kept for it, 0 when none is dropped.
        uid: that it runs as, as its worker says; the worker keeps its own where the slot's could not read the code.
        state: of its life.
        pid: 0 before the fork is confirmed.
        started_wall_ms: when it was released.
        go_fd: write end of the pipe that it blocks on, -1 after the release.
        doomed_by: why ``sutazaid`` ends it, empty when it does not.
        own: whether its end counts as its own failure.
        spare: pid of the placed spare that it is made of, 0 when it is placed after its fork.
        hosted: whether it lives inside its worker's process; its group does not exist then.
    """

    ticket: str
    agent: Agent
    worker: str
    group: str
    slot: int
    uid: int = 0
    state: Literal["forking", "running", "ending"] = "forking"
    pid: int = 0
    started_wall_ms: int = 0
    go_fd: int = -1
    timer: Timer | None = None
    doomed_by: str = ""
    own: bool = True
    spare: int = 0
    hosted: bool = False


@dataclass(frozen=True, slots=True)
class InstanceTools:
    """What ``Instances`` works with."""

    loop: Loop
    server: LineServer
    alarms: Alarms
    cells: Cells
    gate: Gate
    reaper: Reaper
    workers: Workers


class Instances:
    """All agents in memory.

    Attributes:
        live: by ticket.
        waiting: agents whose wake was answered "wait".
    """

    def __init__(self, tools: InstanceTools, tokens: Tokens, slots: Slots, spares: Spares) -> None:
        self.live: dict[str, Instance] = {}
        self.waiting: dict[str, str] = {}
        self._agents: dict[str, Agent] = {}
        self._tools = tools
        self._tokens = tokens
        self._slots = slots
        self.spares = spares
        self.hosting = Hosting(self, tools, tokens, spares.notes)
        self._stopping = False
        self._on_empty: list[Callable[[], None]] = []

    def set_agents(self, agents: list[Agent], uid_first: int) -> None:
        """Take over which agents exist; instances of changed or removed ones finish their turn and end."""
        self._slots.begin_at(uid_first if os.geteuid() == 0 else 0)
        fresh = {agent.name: agent for agent in agents}
        for instance in list(self.live.values()):
            if fresh.get(instance.agent.name) != instance.agent:
                self.end(instance.ticket, "its agent was changed", own=False, grace_ms=CHANGE_GRACE_MS)
        self.hosting.tell_limits(self._agents, fresh)
        self._agents = fresh
        self.spares.set_agents(agents)

    def change_agent(self, agent: Agent) -> None:
        """Take over another limit for instances to come; those that live keep theirs."""
        self._agents = {**self._agents, agent.name: agent}
        self.spares.set_agents(list(self._agents.values()))

    @property
    def agents(self) -> dict[str, Agent]:
        """The plan's agents by name."""
        return self._agents

    @property
    def stopping(self) -> bool:
        """Whether the fleet ends: no instance is started any more."""
        return self._stopping

    # Waking

    def wake(self, name: str, want: int) -> tuple[str, str, list[str]]:
        """Start instances of an agent.

        Args:
            name: of the agent.
            want: how many more are wanted; forks under way are counted in, so asking again is harmless.

        Returns:
            ``yes``, ``wait`` or ``no``; why; the tickets of all forks under way.
        """
        agent = self._agents.get(name)
        if agent is None:
            return "no", f"there is no agent {name!r}", []
        if self._stopping:
            return "no", "the fleet is stopping", []
        why = ""
        forking = [each.ticket for each in self.live.values() if each.agent.name == name and each.state == "forking"]
        while len(forking) < want and not why:
            ticket, why = self._wake_one(agent)
            if ticket:
                forking.append(ticket)
        if why:
            self.waiting[name] = why
        return ("yes" if forking else "wait"), why, forking

    def _wake_one(self, agent: Agent) -> tuple[str, str]:
        if sum(each.agent.name == agent.name for each in self.live.values()) >= agent.instances_max:
            return "", f"{agent.name} has its {agent.instances_max} instances"
        if self._tools.workers.hosts(agent.family):
            return self.hosting.wake(agent)
        members = self._tools.workers.for_family(agent.family)
        if not members:
            return "", f"no worker of the family {agent.family} is ready"
        spare = self.spares.take(agent, (name for name, _ in members))
        if spare is None and not self._slots.has_room():
            self.spares.end_all()  # theirs are free in a moment
            return "", "all user ids of this fleet are in use"
        if spare is None:
            self._tools.cells.groups.prepare()  # the kernel's grace period begins, beside all that comes before placing
        ticket = spare.ticket if spare else new_id("k")
        admission = self._tools.gate.ask_instance(agent, ticket)
        if not admission.ticket:
            if spare is not None:
                self.spares.end(spare)
            if admission.short:
                self._tools.alarms.raise_("ResourceExhausted", agent.name, admission.why)
            return "", admission.why
        if spare is not None:
            instance = Instance(ticket, agent, spare.worker, spare.group, spare.slot, spare=spare.pid)
        else:
            worker = min(members, key=lambda each: sum(i.worker == each[0] for i in self.live.values()))[0]
            group = self._tools.cells.path(agent.pool, f"{agent.name}.{ticket}")
            instance = Instance(ticket, agent, worker, group, self._slots.take())
        self.live[ticket] = instance
        self._fork(instance, dict(members)[instance.worker])
        return (ticket, "") if ticket in self.live else ("", f"{instance.worker} is gone")

    def begin_hosted(self, ticket: str, agent: Agent, worker: str) -> Instance:
        """Take in an instance that lives inside its worker."""
        path = f"{self._tools.cells.path(agent.pool, worker)}/{ticket}"
        instance = self.live[ticket] = Instance(ticket, agent, worker, path, 0, hosted=True)
        return instance

    def _fork(self, instance: Instance, connection: Connection) -> None:
        """Ask the worker, and make the group while it forks; a spare has its group, and is let go at once."""
        tools = self._tools
        if instance.spare:
            try:
                tools.cells.ensure(instance.agent.name, instance.group, instance.agent.limits)
                self.spares.note(instance.ticket, instance.agent.name)
            except (HostError, OSError) as error:
                self._fork_failed(instance, str(error))
                return
        read_fd, instance.go_fd = os.pipe2(os.O_CLOEXEC)
        message = {
            "push": "fork",
            "ticket": instance.ticket,
            "agent": instance.agent.name,
            "token": self._tokens.of(instance.ticket),
            "uid": instance.slot,
            "cgroup_wait": True,
        }
        if instance.spare:
            message["spare"] = instance.spare
            os.write(instance.go_fd, b"g")
        connection.send(message, read_fd)
        os.close(read_fd)
        if instance.state != "forking":  # the worker's connection broke while we wrote to it, and all was taken back
            return
        instance.timer = tools.loop.after(
            FORK_WAIT_MS, lambda: self._fork_failed(instance, f"no answer from {instance.worker} in {FORK_WAIT_MS} ms")
        )
        if instance.spare:
            return
        try:
            tools.cells.ensure(instance.agent.name, instance.group, instance.agent.limits)
        except HostError as error:
            self._fork_failed(instance, str(error))

    def offered(self, request: Request) -> None:
        """A worker has a spare: place it, unless it counts as an instance already.

        Then an earlier ``sutazaid`` had given it away and died before the order left: it will never get that order.

        Raises:
            ProtocolError: it names no process.
        """
        pid = request.number("pid", 0)
        for instance in list(self.live.values()):
            if pid in {instance.pid, instance.spare} and pid > 0 and instance.state != "ending":
                self.end(instance.ticket, "it never got its order", own=False, grace_ms=0)
                request.reply(placed=False, more=False, ended=True)
                return
        self.spares.offer(request)

    def forked(self, request: Request) -> None:
        """A worker has forked: put the child into its group and let it go.

        Raises:
            NotFoundError: the ticket is over; the child reads end-of-file and ends.
            ProtocolError: the ticket is another worker's.
        """
        instance = self._of_worker(request)
        pid = request.number("pid", 0)
        tools = self._tools
        try:
            if pid != instance.spare:
                tools.cells.groups.place(instance.group, pid)
                os.write(instance.go_fd, b"g")
        except (HostError, OSError) as error:
            self._fork_failed(instance, f"pid {pid} cannot be placed: {error}")
            return
        tools.reaper.watch(pid, lambda ended: self._on_exit(instance, ended))
        self.runs(instance, pid, request.number("uid", instance.slot or os.geteuid()))

    def runs(self, instance: Instance, pid: int, uid: int) -> None:
        """It has begun: the broker may expect it."""
        self._close_pipe(instance)
        instance.pid, instance.state, instance.uid = pid, "running", uid
        instance.started_wall_ms = self._tools.loop.clock.wall_ms()
        self._tools.gate.bind(instance.ticket, pid)
        self._tools.alarms.clear("ResourceExhausted", instance.agent.name)
        self._tell("ticket", **self._ticket(instance))

    def fork_failed(self, request: Request) -> None:
        """A worker could not fork.

        Raises:
            NotFoundError: the ticket is over.
            ProtocolError: the ticket is another worker's.
        """
        self._fork_failed(self._of_worker(request), str(request.body.get("error", "no reason was given")))

    def _of_worker(self, request: Request) -> Instance:
        instance = self.live.get(request.text("ticket"))
        if instance is None or instance.state != "forking":
            raise NotFoundError("this ticket is over")
        if request.connection.process != instance.worker:
            raise ProtocolError(f"this ticket was given to {instance.worker}")
        return instance

    def worker_lost(self, worker: str) -> None:
        """A worker's connection has closed: forks that it has not confirmed have failed."""
        self.spares.worker_lost(worker)
        for instance in list(self.live.values()):
            if instance.worker == worker and instance.state == "forking":
                self._fork_failed(instance, f"{worker} is gone")

    def fork_has_failed(self, instance: Instance, why: str) -> None:
        """It never began: its ticket is freed, the attempt is given back."""
        self._fork_failed(instance, why)

    def _fork_failed(self, instance: Instance, why: str) -> None:
        if instance.state != "forking":
            return
        instance.own = False
        self._close_pipe(instance)
        self._ending(instance, "fork-failed", -1, why)

    # Ending

    def end(self, ticket: str, why: str, *, own: bool, grace_ms: int = TERM_GRACE_MS) -> None:
        """End an instance: let it finish (SIGTERM) and kill it after a grace; a grace of 0 kills at once.

        Raises:
            NotFoundError: there is no such instance.
        """
        instance = self.live.get(ticket)
        if instance is None:
            raise NotFoundError(f"there is no instance with the ticket {ticket!r}")
        if instance.state == "forking":
            self._fork_failed(instance, why)
        elif instance.state == "running" and instance.hosted:
            self.hosting.end(instance, why, own=own, grace_ms=grace_ms)
        elif instance.state == "running":
            instance.doomed_by, instance.own = why, own
            self._tools.cells.groups.thaw(instance.group)
            if grace_ms <= 0:
                self._tools.cells.groups.kill(instance.group)
            else:
                self._tools.reaper.signal(instance.pid, SIGTERM)
                instance.timer = self._tools.loop.after(grace_ms, lambda: self._tools.cells.groups.kill(instance.group))

    def drain(self, grace_ms: int, then: Callable[[], None]) -> None:
        """Start none any more; let all finish their turn, end what is left after the grace, and call back."""
        self._stopping = True
        self.spares.close()
        self._tell("drain")
        for instance in list(self.live.values()):
            if instance.state == "forking":
                self._fork_failed(instance, "the fleet is stopping")
            else:
                instance.own = False
        if not self.live:
            then()
            return
        self._on_empty.append(then)
        self._tools.loop.after(grace_ms, self._end_all)

    def _end_all(self) -> None:
        for ticket in list(self.live):
            self.end(ticket, "the fleet is stopping", own=False)

    def _on_exit(self, instance: Instance, ended: Exit) -> None:
        if instance.state == "ending":
            return
        usage = self._tools.cells.groups.usage(instance.group)
        status = -1 if ended.status is None else ended.status
        if instance.doomed_by:
            reason = "killed"
        elif usage.oom_kills:
            reason = "oom"
            self._tools.alarms.raise_(
                "OomKilled",
                instance.agent.name,
                f"an instance went over its {instance.agent.limits.memory_bytes} bytes",
            )
        else:
            reason = "ok" if status == 0 else "signal" if status < 0 and ended.status is not None else "error"
        self._ending(instance, reason, status, instance.doomed_by)

    def has_ended(self, instance: Instance, reason: str, status: int, why: str) -> None:
        """A hosted instance has ended, as its worker says or because that is gone."""
        self._ending(instance, reason, status, why)

    def _ending(self, instance: Instance, reason: str, status: int, why: str) -> None:
        if instance.timer is not None:
            instance.timer.cancel()
        instance.state = "ending"
        if instance.hosted:
            self._gone(instance, reason, status, why)
            return
        self._tools.cells.end(instance.group, lambda: self._gone(instance, reason, status, why))

    def _gone(self, instance: Instance, reason: str, status: int, why: str) -> None:
        if self.live.pop(instance.ticket, None) is None:
            return
        self._slots.give_back(instance.slot)
        if instance.hosted:
            self.hosting.freed(instance)
        elif instance.group.rpartition("/")[2].startswith(GROUP_PREFIX):
            self.spares.forget(instance.ticket)
        self._tell(
            "exit",
            ticket=instance.ticket,
            agent=instance.agent.name,
            pid=instance.pid,
            reason=reason,
            status=status,
            own=instance.own,
            why=why,
        )
        self._tools.gate.release(instance.ticket)
        if not self.live:
            waiting, self._on_empty = self._on_empty, []
            for callback in waiting:
                callback()

    # What the broker hears

    def room(self) -> None:
        """Tell the broker that waiting wakes may be asked again."""
        if self._tools.server.named(BROKER) is None:
            return
        waiting, self.waiting = self.waiting, {}
        for agent in waiting:
            self._tell("room", agent=agent)

    def tell_all_tickets(self) -> None:
        """The broker has (re)connected: it learns which instances live."""
        running = [each for each in self.live.values() if each.state == "running"]
        for instance in running:
            if instance.uid == 0 and not instance.hosted:  # rebuilt before it had dropped its uid
                instance.uid = procfs.uid(instance.pid) or 0
                self._slots.mark(instance.uid)
                instance.slot = instance.slot or instance.uid
        self._tell("tickets", tickets=[self._ticket(each) for each in running])

    def _ticket(self, instance: Instance) -> dict[str, Any]:
        return {
            "ticket": instance.ticket,
            "agent": instance.agent.name,
            "token": self._tokens.of(instance.ticket),
            "uid": instance.uid,
            "pid": instance.pid,
        }

    def _tell(self, kind: str, **fields: Any) -> None:
        if (broker := self._tools.server.named(BROKER)) is not None:
            broker.push(kind, **fields)

    def _close_pipe(self, instance: Instance) -> None:
        if instance.timer is not None:
            instance.timer.cancel()
        if instance.go_fd >= 0:
            os.close(instance.go_fd)
            instance.go_fd = -1

    # After a restart of sutazaid

    def rebuild(self, group: str, name: str) -> bool:
        """Recognise an instance by the name of its group; False when it is none that may go on.

        The child that was never released ends by itself: its pipe has no writer any more.
        """
        dot, ticket = name.rpartition(".")[1:]
        agent = self._agents.get(self.spares.agent_of(name))
        identities = [found for pid in self._tools.cells.groups.pids(group) if (found := procfs.identity(pid))]
        if agent is None or not dot or not ticket.startswith("k_") or not identities:
            return False
        main = min(identities, key=lambda each: each.start_ticks)
        uid = procfs.uid(main.pid) or 0
        instance = Instance(ticket, agent, self._tools.workers.name_of_family(agent.family), group, uid, uid, "running")
        instance.pid = main.pid
        instance.started_wall_ms = started_wall_ms(main, self._tools.loop.clock.wall_ms())
        self._slots.mark(uid)
        self.live[ticket] = instance
        self._tools.gate.rebuild_instance(agent, ticket, main.pid)
        self._tools.reaper.watch(main.pid, lambda ended: self._on_exit(instance, ended))
        return True


def started_wall_ms(who: procfs.Identity, now_wall_ms: int) -> int:
    """Compute when a process started, from its ticks after boot."""
    age_ms = 0
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/uptime") as file:  # noqa: PTH123 read once an adoption
            uptime_ms = int(float(file.read().split()[0]) * 1_000)
        age_ms = uptime_ms - who.start_ticks * 1_000 // procfs.TICKS_PER_S
    return now_wall_ms - max(0, age_ms)
