"""Why it exists: some conditions only control can see (the disk, the broker's silence); they join ``sutazaid``'s.

``sutazaid`` keeps the one registry of what holds. Control wishes its own kinds there on every tick until they are, so
that it does not matter who was restarted in between. Pure but for the ``tell`` that is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sutazai.telemetry.conditions import Condition, ConditionSet
from sutazai.telemetry.kinds import KINDS
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from sutazai.control.snapshot import Snapshot

DISK_LOW_BYTES = 512 * MIB
DISK_FINE_BYTES = 768 * MIB
BROKER_SILENT_TICKS = 3
CPU_PRESSURE_HIGH = 0.6
CPU_PRESSURE_FINE = 0.3
#: Kinds that control alone raises and clears.
OWN_KINDS = frozenset({"DiskLow", "BrokerDown", "CpuPressure", "DeadLetters"})


class Tell(Protocol):
    """Raises or clears a condition at ``sutazaid``."""

    def __call__(self, name: str, subject: str, *, active: bool, text: str) -> None:
        """Do it."""


class Board:
    """All conditions that hold: ``sutazaid``'s and, while it does not answer, control's own view."""

    def __init__(self) -> None:
        """Begin with none."""
        self._own = ConditionSet()
        self._told: list[dict[str, Any]] = []
        self._silent_ticks = 0

    def update(self, snapshot: Snapshot, tell: Tell) -> list[dict[str, Any]]:
        """Take a snapshot, tell ``sutazaid`` what it does not know, and return all that holds, as JSON entries."""
        self._detect(snapshot)
        at = snapshot.at_wall_ms
        if snapshot.status is None:
            self._own.raise_("SupervisorDown", "sutazaid", "", at)
        else:
            self._own.clear("SupervisorDown", "sutazaid")
            self._told = snapshot.conditions()
            self._reconcile(tell)
        return merged(self._told, self._own.active())

    def _detect(self, snapshot: Snapshot) -> None:
        at = snapshot.at_wall_ms
        free = snapshot.host.disk_free_bytes
        if free is not None and free < DISK_LOW_BYTES:
            self._own.raise_("DiskLow", "state", f"{format_bytes(free)} are free where the fleet's state lies", at)
        elif free is not None and free > DISK_FINE_BYTES:
            self._own.clear("DiskLow", "state")
        waiting = snapshot.host.pressure_cpu_minute
        if waiting > CPU_PRESSURE_HIGH:
            self._own.raise_("CpuPressure", "host", f"work waited for a core in {waiting:.0%} of the last minute", at)
        elif waiting < CPU_PRESSURE_FINE:
            self._own.clear("CpuPressure", "host")
        self._broker(snapshot)

    def _broker(self, snapshot: Snapshot) -> None:
        if snapshot.stats is None:
            self._silent_ticks += 1
            starting = (snapshot.status or {}).get("state") in {"starting", "stopping"}
            if self._silent_ticks >= BROKER_SILENT_TICKS and not starting:
                self._own.raise_("BrokerDown", "broker", "", snapshot.at_wall_ms)
            return
        self._silent_ticks = 0
        self._own.clear("BrokerDown", "broker")
        dead = {agent: int(queue.get("dead") or 0) for agent, queue in (snapshot.stats.get("queues") or {}).items()}
        for agent, count in dead.items():
            if count:
                text = f"{count} tasks of {agent} used up their attempts"
                self._own.raise_("DeadLetters", agent, text, snapshot.at_wall_ms)
        for condition in self._own.active():
            if condition.name == "DeadLetters" and not dead.get(condition.subject):
                self._own.clear("DeadLetters", condition.subject)

    def _reconcile(self, tell: Tell) -> None:
        there = {(entry["name"], entry["subject"]): entry["text"] for entry in self._told}
        wished = {(item.name, item.subject): item.text for item in self._own.active() if item.name in OWN_KINDS}
        for (name, subject), text in wished.items():
            if there.get((name, subject)) != text:
                tell(name, subject, active=True, text=text)
        for name, subject in there:
            if name in OWN_KINDS and (name, subject) not in wished:
                tell(name, subject, active=False, text="")
        self._told = [entry for entry in self._told if entry["name"] not in OWN_KINDS or _key(entry) in wished]


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["name"], entry["subject"]


def merged(told: list[dict[str, Any]], own: list[Condition]) -> list[dict[str, Any]]:
    """One list of entries out of both, with causes and roots found anew.

    Kinds that this version does not know are passed on as they are.
    """
    known = ConditionSet.from_json([entry for entry in told if entry.get("name") in KINDS])
    for condition in own:
        known.raise_(condition.name, condition.subject, condition.text, condition.since_wall_ms)
    unknown = [entry for entry in told if entry.get("name") not in KINDS]
    return known.to_json() + unknown
