"""Why it exists: a memory limit that turned out wrong is changed while the fleet runs, and nobody's budget is broken.

The plan stays as it is; what is changed lies beside it (``<state>/resized.json``) until the next plan, also over a
restart of ``sutazaid``. The note is written before the kernel is told, so that a crash in between is repaired by the
next start. A change that would not fit its pool, or that would kill what runs, is refused.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from sutazai.errors import HostError, NotFoundError, RefusedError
from sutazai.governor.snapshot import held_bytes
from sutazai.supervisor.acts import ActLog, arguments_of
from sutazai.supervisor.journal import say
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.supervisor.contract import Agent, PlanFile, Process
    from sutazai.supervisor.lines import Request
    from sutazai.supervisor.status import Parts

    T = TypeVar("T", Process, Agent)

MARGIN_SHARE = 0.10
MARGIN_BYTES_MIN = 8 * MIB


@dataclass(frozen=True, slots=True)
class _Change:
    """A change that may be made.

    Attributes:
        subject: process or agent.
        kind: which of the two.
        pool: its memory pool.
        before_bytes: limit in force.
        after_bytes: the wanted one.
        used_bytes: what its groups hold now and cannot give back, the largest of them.
    """

    subject: str
    kind: str
    pool: str
    before_bytes: int
    after_bytes: int
    used_bytes: int


class Resizer:
    """Does the operation ``resize``, and knows what was resized."""

    def __init__(self, path: Path, parts: Parts, log: ActLog) -> None:
        self._path, self._parts, self._log = path, parts, log
        self._sizes: dict[str, int] = {}
        self._plan: PlanFile | None = None

    # What is in force

    def take(self, plan: PlanFile, *, fresh: bool) -> None:
        """Take over a plan; a fresh one ends all changes, the one that ran before keeps them."""
        self._plan = plan
        if fresh:
            self.forget()
            return
        with suppress(OSError, ValueError, TypeError, AttributeError):
            data = json.loads(self._path.read_text())
            if data.get("digest") == plan.digest:
                self._sizes = {str(name): int(size) for name, size in data["sizes"].items()}

    def forget(self) -> None:
        """The fleet is stopped, or another plan comes: nothing is changed any more."""
        self._sizes = {}
        self._path.unlink(missing_ok=True)

    def process(self, spec: Process) -> Process:
        """The plan's entry with the limit that is in force."""
        return _sized(spec, self._sizes.get(spec.name, 0))

    def agents(self, agents: list[Agent]) -> list[Agent]:
        """The plan's agents with the limits that are in force."""
        return [_sized(agent, self._sizes.get(agent.name, 0)) for agent in agents]

    def enforce(self) -> None:
        """After a start: what was changed and not told to the kernel any more is told now."""
        for name in self._sizes:
            unit = self._parts.keeper.units.get(name)
            if unit is not None and unit.pid:
                self._ensure(name, unit.group, unit.spec)

    def undo(self, names: list[str]) -> None:
        """A new plan is in force: processes that it keeps have the plan's own limit again."""
        for name in names:
            unit = self._parts.keeper.units.get(name)
            if unit is not None and unit.planned is not None:
                self._put(name, unit.planned)

    @property
    def names(self) -> list[str]:
        """Who was resized."""
        return list(self._sizes)

    def to_json(self) -> list[dict[str, Any]]:
        """As it stands in ``status``."""
        rows = []
        for name, size in self._sizes.items():
            spec = self._planned(name)
            if spec is not None:
                kind = "process" if name in self._parts.keeper.units else "agent"
                rows.append({
                    "subject": name, "kind": kind, "memory_bytes_before": spec.limits.memory_bytes,
                    "memory_bytes": size,
                })  # fmt: skip
        return rows

    # The operation

    def resize(self, request: Request) -> None:
        """Change a limit, or say what would be.

        Raises:
            NotFoundError: there is no such process or agent.
            RefusedError: it does not fit, would kill what runs, or the kernel refuses it.
            ProtocolError: an argument is wrong.
        """
        arguments = arguments_of(request)
        change = self._checked(str(arguments["subject"]), int(arguments["memory_bytes"]))
        dry_run = bool(arguments["dry_run"])
        text = (
            f"{'would change' if dry_run else 'changed'} the limit of {change.subject} from "
            f"{format_bytes(change.before_bytes) if change.before_bytes else 'none'} to "
            f"{format_bytes(change.after_bytes)}, it holds {format_bytes(change.used_bytes)}"
        )
        if not dry_run and change.before_bytes != change.after_bytes:
            self._do(change)
            self._log.add(request, text, before_bytes=change.before_bytes, after_bytes=change.after_bytes)
        request.reply(
            done={
                "action": "resize", "subject": change.subject, "kind": change.kind, "pool": change.pool,
                "dry_run": dry_run, "memory_bytes_before": change.before_bytes,
                "memory_bytes_after": change.after_bytes, "used_bytes": change.used_bytes, "text": text,
            }
        )  # fmt: skip

    def _checked(self, subject: str, wanted: int) -> _Change:
        parts = self._parts
        unit, agent = parts.keeper.units.get(subject), parts.instances.agents.get(subject)
        usage = parts.cells.groups.usage
        if unit is not None:
            change = _Change(
                subject, "process", unit.spec.pool, unit.spec.limits.memory_bytes, wanted,
                held_bytes(usage(unit.group)) if unit.pid else 0,
            )  # fmt: skip
            self._fits(change, _sized(unit.spec, wanted).envelope_bytes)
        elif agent is not None:
            used = [
                held_bytes(usage(each.group)) for each in parts.instances.live.values() if each.agent.name == subject
            ]
            change = _Change(subject, "agent", agent.pool, agent.limits.memory_bytes, wanted, max(used, default=0))
            self._fits(change, _sized(agent, wanted).envelope_bytes)
        else:
            raise NotFoundError(f"there is no process and no agent {subject!r} in this fleet")
        margin = max(MARGIN_BYTES_MIN, round(change.used_bytes * MARGIN_SHARE))
        if change.used_bytes and wanted < change.used_bytes + margin:
            raise RefusedError(
                f"{format_bytes(wanted)} would kill {subject}: it holds {format_bytes(change.used_bytes)}, "
                f"and {format_bytes(margin)} above that are kept free"
            )
        return change

    def _fits(self, change: _Change, envelope_bytes: int) -> None:
        """The plan's own rule: a limit fits its pool, and so do the processes together, or one instance beside them."""
        plan = self._plan
        pool = next((each for each in plan.pools if each.name == change.pool), None) if plan else None
        if plan is None or pool is None:
            raise RefusedError(f"there is no pool {change.pool}")
        others = sum(
            unit.spec.envelope_bytes
            for unit in self._parts.keeper.units.values()
            if unit.spec.pool == pool.name and unit.name != change.subject
        )
        cut = sum(each.size_bytes for each in plan.pools if each.parent == pool.name)
        room = pool.size_bytes - others - cut
        need = max(envelope_bytes, change.after_bytes if change.kind == "process" else 0)
        if change.after_bytes > change.before_bytes and (need > room or change.after_bytes > pool.size_bytes):
            raise RefusedError(
                f"{change.subject} with {format_bytes(change.after_bytes)} does not fit: the pool {pool.name} of "
                f"{format_bytes(pool.size_bytes)} has {format_bytes(max(0, room))} for it"
            )

    def _do(self, change: _Change) -> None:
        old = dict(self._sizes)
        planned = self._planned(change.subject)
        if planned is not None and planned.limits.memory_bytes == change.after_bytes:
            self._sizes.pop(change.subject, None)  # back to what the plan says
        else:
            self._sizes[change.subject] = change.after_bytes
        self._save()
        unit = self._parts.keeper.units.get(change.subject)
        if unit is None:
            self._parts.instances.change_agent(_sized(self._parts.instances.agents[change.subject], change.after_bytes))
            return
        before = unit.spec
        if why := self._put(change.subject, _sized(unit.planned or unit.spec, change.after_bytes)):
            self._sizes = old
            self._save()
            self._put(change.subject, before)
            raise RefusedError(f"the kernel refuses it: {why}")

    def _put(self, name: str, spec: Process) -> str:
        """Bring an entry into force for a process that may run; gives why the kernel does not hold the limit."""
        unit = self._parts.keeper.unit(name)
        unit.spec = spec
        if unit.ticket:
            self._parts.gate.resize(unit.ticket, spec.envelope_bytes)
        return self._ensure(name, unit.group, spec) if unit.pid else ""

    def _ensure(self, name: str, group: str, spec: Process) -> str:
        try:
            self._parts.cells.ensure(name, group, spec.limits)
        except HostError as error:
            return str(error)
        missing = self._parts.cells.groups.ensure(group, spec.limits)
        return "; ".join(each.why for each in missing if each.limit == "memory")

    def _planned(self, name: str) -> Process | Agent | None:
        unit = self._parts.keeper.units.get(name)
        if unit is not None:
            return unit.planned or unit.spec
        agents = self._plan.agents if self._plan is not None else []
        return next((agent for agent in agents if agent.name == name), None)

    def _save(self) -> None:
        """Write the note; a full disk is said, and the change holds until ``sutazaid`` is started again."""
        temporary = self._path.with_suffix(".new")
        digest = self._plan.digest if self._plan is not None else ""
        try:
            if not self._sizes:
                self._path.unlink(missing_ok=True)
                return
            temporary.write_text(json.dumps({"digest": digest, "sizes": self._sizes}))
            temporary.replace(self._path)
        except OSError as error:
            say(f"cannot remember the changed limits: {error.strerror}", "warning")


def _sized(spec: T, size: int) -> T:
    """Give an entry another memory limit; what its ticket reserves follows: never above, and all where it was all."""
    if size <= 0 or size == spec.limits.memory_bytes:
        return spec
    was_all = spec.envelope_bytes >= spec.limits.memory_bytes
    envelope = size if was_all else min(spec.envelope_bytes, size)
    return replace(spec, limits=replace(spec.limits, memory_bytes=size), envelope_bytes=envelope)
