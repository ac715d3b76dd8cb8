"""Why it exists: a change of the fleet is a new plan, and touches only what it changes.

``diff`` is pure. ``Rollout`` carries it out: stop what is removed, then stage by stage restart what changed and go on
when it is ready again; new processes start by the stages' own rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.errors import ConfigError
from sutazai.supervisor.journal import say
from sutazai.supervisor.keeper import Keeper, planned_processes
from sutazai.supervisor.listeners import Listeners, key_of
from sutazai.supervisor.stages import mistakes, through

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai.supervisor.contract import Listen, PlanFile, Process


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new plan changes.

    Attributes:
        kept: names that go on untouched.
        changed: names to restart, in the plan's order.
        removed: names to stop.
        added: names to start.
    """

    kept: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For the answer on the socket."""
        return {"kept": self.kept, "changed": self.changed, "removed": self.removed, "added": self.added}


def diff(old: list[Process], new: list[Process]) -> Changes:
    """Compare two plans process by process."""
    before = {process.name: process for process in old}
    after = {process.name: process for process in new}
    return Changes(
        kept=tuple(name for name in after if before.get(name) == after[name]),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
        removed=tuple(name for name in before if name not in after),
        added=tuple(name for name in after if name not in before),
    )


def checked(new: PlanFile, old: PlanFile, path: Path) -> PlanFile:
    """Make sure that a running fleet can take over a plan.

    Raises:
        ConfigError: it cannot; all reasons at once.
    """
    found = mistakes(new)
    for what in ("fleet", "state_dir", "run_dir"):
        if getattr(old, what) != getattr(new, what):
            found.append(f"{what} is {getattr(new, what)!r}, and the running fleet's is {getattr(old, what)!r}")
    if found:
        raise ConfigError("; ".join(found), path=str(path), hint="run: sutazai plan")
    return new


class Rollout:
    """One change of the plan under way."""

    def __init__(self, keeper: Keeper, listeners: Listeners, changes: Changes, new: PlanFile) -> None:
        self._keeper = keeper
        self._listeners = listeners
        self._changes = changes
        self._specs = {process.name: process for process in planned_processes(new)}
        self._stages = list(new.stages)
        self._watching: list[str] = []
        self.done = False
        self.on_done: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Stop what is removed, then go stage by stage."""
        self._keeper.stop(self._changes.removed, self._removed)

    def advance(self) -> None:
        """A process has changed its state: go on when the stage is through."""
        if self.done or not self._watching:
            return
        units = [self._keeper.units[name] for name in self._watching if name in self._keeper.units]
        if all(through(unit.spec, unit.standing) or unit.failed_openly for unit in units):
            self._watching = []
            self._next()

    def _removed(self) -> None:
        gone: list[Listen] = []
        for name in self._changes.removed:
            gone += self._keeper.unit(name).spec.listen
            self._keeper.forget(name)
        wanted = {key_of(listen) for spec in self._specs.values() for listen in spec.listen}
        self._listeners.drop([listen for listen in gone if key_of(listen) not in wanted])
        for name in self._changes.added:
            self._keeper.add(self._specs[name])
        self._next()

    def _next(self) -> None:
        while self._stages:
            stage = self._stages.pop(0)
            names = [name for name in self._changes.changed if self._specs[name].stage == stage]
            if names:
                say(f"the new plan changes {', '.join(names)}")
                self._keeper.stop(names, lambda names=names: self._replace(names))  # type: ignore[misc]
                return
        self.done = True
        self._keeper.reorder(list(self._specs))
        self._keeper.advance()
        self.on_done()

    def _replace(self, names: list[str]) -> None:
        for name in names:
            old = self._keeper.unit(name)
            new = self._specs[name]
            kept = {key_of(listen) for spec in self._specs.values() for listen in spec.listen}
            self._listeners.drop([listen for listen in old.spec.listen if key_of(listen) not in kept])
            self._keeper.replace(name, new)
        self._watching = names
        self._keeper.advance()
        self.advance()
