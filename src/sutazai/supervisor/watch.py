"""Why it exists: what the kernel shows once a tick becomes conditions for a person and acts of the governor.

The governor decides (``governor.engine``); here its findings become conditions, and its decisions are carried out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sutazai.errors import NotFoundError
from sutazai.governor.engine import Decision, Engine
from sutazai.supervisor.instances import BROKER
from sutazai.supervisor.journal import say
from sutazai.supervisor.sample import members_of
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.lines import LineServer
    from sutazai.supervisor.loop import Loop
    from sutazai.supervisor.sample import Sampler
    from sutazai.supervisor.status import Parts

DISK_LOW_BYTES = 256 * MIB
RECOVERED = 1.1
#: The broker asks again every few seconds while it needs an instance.
EXHAUSTED_KEPT_MS = 15_000
HOST = "host"
#: Findings that hold until the governor no longer finds them; an OOM kill is an event and is taken back by time.
LASTING = ("MemoryPressure", "ReserveEntered", "HostMemoryLow", "LimitNotEnforced")


class Watch:
    """Looks once a tick.

    Attributes:
        queues: depths by agent, as the broker told last.
    """

    def __init__(self, loop: Loop, parts: Parts, sampler: Sampler, server: LineServer) -> None:
        self.queues: dict[str, Any] = {}
        self._loop = loop
        self._parts = parts
        self._sampler = sampler
        self._server = server
        self._engine = Engine()
        self._held: set[tuple[str, str]] = set()
        self._idle_since_ms: dict[str, int] = {}

    def take_over(self) -> None:
        """Conditions of an earlier ``sutazaid`` are the governor's again, so that it also takes them back."""
        alarms = self._parts.alarms
        own = self._parts.instances.agents  # what is said of agents is not the governor's to take back
        self._held = {(name, subject) for name in LASTING for subject in alarms.subjects(name) if subject not in own}

    def set_queues(self, queues: dict[str, Any]) -> None:
        """Take the broker's queue depths: an agent without due and running tasks is idle."""
        self.queues = queues
        now_ms = self._loop.now_ms()
        for name, depth in queues.items():
            if isinstance(depth, dict) and not depth.get("queued") and not depth.get("leased"):
                self._idle_since_ms.setdefault(name, now_ms)
            else:
                self._idle_since_ms.pop(name, None)

    def look(self, plan: PlanFile) -> None:
        """Read the kernel, raise or clear what follows, and do what the governor decides."""
        parts, now_ms = self._parts, self._loop.now_ms()
        known = self._server.named(BROKER) is not None
        idle_ms = {name: now_ms - since for name, since in self._idle_since_ms.items()} if known else {}
        members = members_of(parts.gate, parts.keeper, parts.instances, idle_ms)
        snapshot = self._sampler.look(plan, parts.cells, parts.gate, members, now_ms)
        decisions = self._engine.tick(snapshot)
        self._findings()
        for decision in decisions:
            self._act(decision)
        self._disk(plan)
        self._privileges(plan)
        parts.alarms.expire("OomKilled", plan.restart.crash_loop_window_ms)
        parts.alarms.expire("ResourceExhausted", EXHAUSTED_KEPT_MS)

    def _findings(self) -> None:
        alarms = self._parts.alarms
        now = set()
        for finding in self._engine.findings:
            alarms.raise_(finding.name, finding.subject, finding.text)
            if finding.name in LASTING:
                now.add((finding.name, finding.subject))
        for name, subject in self._held - now:
            alarms.clear(name, subject)
        self._held = now

    def _act(self, decision: Decision) -> None:
        say(f"governor: hibernate {decision.name} ({decision.ticket}): {decision.why}")
        if decision.dry_run:
            return
        try:
            self._parts.instances.end(decision.ticket, decision.why, own=False)
        except NotFoundError:
            return  # it has ended meanwhile

    def _disk(self, plan: PlanFile) -> None:
        free = self._sampler.disk_free_bytes
        if free < DISK_LOW_BYTES:
            self._parts.alarms.raise_("DiskLow", HOST, f"{format_bytes(free)} are free where {plan.state_dir} is")
        elif free > DISK_LOW_BYTES * RECOVERED:
            self._parts.alarms.clear("DiskLow", HOST)

    def _privileges(self, plan: PlanFile) -> None:
        if plan.agents and (plan.instance_uid_first <= 0 or os.geteuid() != 0):
            text = f"agents run with uid {os.geteuid()}, which is sutazaid's own"
            self._parts.alarms.raise_("PrivilegesNotDropped", plan.fleet, text)
        else:
            self._parts.alarms.clear("PrivilegesNotDropped", plan.fleet)
