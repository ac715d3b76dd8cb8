"""Why it exists: where a process' cgroup is, and that it is really empty in the end, is decided once.

A cell is a group for one process tree: ``<pool>/<process>`` or ``<pool>/<agent>.<ticket>``, below the pools' own
groups. Ending a cell means: kill whatever is left in it, also what forked away, and remove it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.supervisor.contract import Limits, Pool
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.host.cgroup import Groups
    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.loop import Loop

RETRY_MS_FIRST = 2
RETRY_MS_MAX = 200
GIVE_UP_MS = 15_000


class Cells:
    """Makes and ends groups of processes and instances."""

    def __init__(self, loop: Loop, groups: Groups, alarms: Alarms) -> None:
        self.groups = groups
        self._loop = loop
        self._alarms = alarms
        self._pools: dict[str, Pool] = {}
        self._left: list[str] = []

    def set_pools(self, pools: list[Pool]) -> None:
        """Make the pools' groups, or change their sizes."""
        old = {name: self.pool_path(name) for name in self._pools}
        self._pools = {pool.name: pool for pool in pools}
        for name, path in old.items():
            if name not in self._pools or self.pool_path(name) != path:
                self._left.append(path)
        for pool in pools:
            limits = Limits(memory_bytes=pool.size_bytes, cpuset=pool.cpuset)
            self._report(pool.name, self.pool_path(pool.name), limits)

    def drop_left_pools(self) -> None:
        """End what is left in pools that the plan has no more, or has elsewhere."""
        left, self._left = self._left, []
        now = {self.pool_path(name) for name in self._pools}
        for path in left:
            if not any(path == other or other.startswith(f"{path}/") for other in now):
                self.end(path, lambda: None)

    def pool_path(self, name: str) -> str:
        """Path of a pool's group, parents before it."""
        pool = self._pools[name]
        return f"{self.pool_path(pool.parent)}/{name}" if pool.parent else name

    def path(self, pool: str, name: str) -> str:
        """Path of a cell."""
        return f"{self.pool_path(pool)}/{name}"

    def ensure(self, subject: str, path: str, limits: Limits) -> None:
        """Make a cell; a limit that is not held becomes a condition of the subject.

        Raises:
            HostError: it cannot be made.
        """
        missing = self.groups.ensure(path, limits)
        if missing and self.groups.version != "none":
            self._alarms.raise_("LimitNotEnforced", subject, "; ".join(f"{each.limit}: {each.why}" for each in missing))
        else:
            self._alarms.clear("LimitNotEnforced", subject)

    def end(self, path: str, then: Callable[[], None]) -> None:
        """Kill everything in a cell, remove it, and call back; at once when it was empty."""
        self._end(path, then, RETRY_MS_FIRST, self._loop.now_ms() + GIVE_UP_MS)

    def _end(self, path: str, then: Callable[[], None], wait_ms: int, until_ms: int) -> None:
        try:
            self.groups.kill(path)
            gone = self.groups.remove(path)
        except (HostError, OSError) as error:
            say(f"cannot end the group {path}: {error}")
            gone = False
        if gone:
            then()
        elif self._loop.now_ms() >= until_ms:
            say(f"gave the group {path} up with {self.groups.pids(path)} in it")
            then()
        else:
            self._loop.after(wait_ms, lambda: self._end(path, then, min(RETRY_MS_MAX, wait_ms * 2), until_ms))

    def _report(self, subject: str, path: str, limits: Limits) -> None:
        try:
            self.ensure(subject, path, limits)
        except HostError as error:
            self._alarms.raise_("LimitNotEnforced", subject, str(error))
