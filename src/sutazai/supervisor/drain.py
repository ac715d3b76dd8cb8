"""Why it exists: a stop has an order, so that nothing is lost that could have been finished.

The edge first (no new work comes in), then the broker stops leasing and the instances finish their turns, then all
stages backwards. The wish is written down before the first step: a ``sutazaid`` that dies in between goes on stopping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.limits import STOP_GRACE_MS_DEFAULT
from sutazai.supervisor.journal import say
from sutazai.supervisor.stages import stop_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.instances import Instances
    from sutazai.supervisor.keeper import Keeper


class Drain:
    """One stop of the whole fleet."""

    def __init__(self, keeper: Keeper, instances: Instances, then: Callable[[], None]) -> None:
        self._keeper = keeper
        self._instances = instances
        self._then = then
        self._groups = stop_order(keeper.stages, keeper.specs())
        self._drained = False

    def start(self) -> None:
        """Begin; ``then`` is called when no process and no instance is left."""
        self._keeper.freeze()
        self._next()

    def _next(self) -> None:
        if not self._drained and not self._leads():
            self._drained = True
            say(f"stopping: {len(self._instances.live)} instances")
            self._instances.drain(STOP_GRACE_MS_DEFAULT, self._next)
            return
        if not self._groups:
            self._then()
            return
        names = [name for name in self._groups.pop(0) if name in self._keeper.units]
        say(f"stopping: {', '.join(names)}")
        self._keeper.stop(names, self._next)

    def _leads(self) -> bool:
        """Whether the next group is the edge: the last stage, as long as no instance needs it to finish."""
        if not self._groups or not self._keeper.stages:
            return False
        specs = [self._keeper.units[name].spec for name in self._groups[0] if name in self._keeper.units]
        last = self._keeper.stages[-1]
        return all(spec.stage == last and spec.kind != "worker" and spec.name != "broker" for spec in specs)
