"""Why it exists: cgroup v1 hosts are still there: a tree for each controller, and a v2 tree without controllers.

The driver is a hybrid: budgets come from v1's ``memory``, ``cpu``, ``cpuset``, ``pids``; killing, freezing, processor
time and pressure come from the v2 tree where it has them (fewer trees to place into), else from ``freezer`` and
``cpuacct``. A group has its own folder in ``cpuset`` only when it has a set of its own, so that a changed set of a pool
holds for all below it. Files: https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import errno
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

from sutazai.host.cgroup import LimitsLike, Missing, Reclaimed, Usage
from sutazai.host.cgroup_files import check_path, number, refusal, table
from sutazai.host.cgroup_tree import CPU_PERIOD_USEC, GroupTree, quota_usec
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.host.cgroup_detect import Place

SHARES_DEFAULT = 1024  # what weight 100 is in v1
SHARES_MIN, SHARES_MAX = 2, 262_144
WEIGHT_DEFAULT = 100
SWAP_MARGIN_BYTES = 4 * MIB
_LIMITS_OF = {"memory": ("memory",), "cpu": ("cpu_quota", "cpu_weight"), "cpuset": ("cpuset",), "pids": ("pids",)}


class GroupsV1(GroupTree):
    """Groups in v1 trees, and in the v2 tree beside them."""

    version: Literal["v1"] = "v1"

    def __init__(self, place: Place) -> None:
        """Choose the trees that are needed here."""
        super().__init__(place)
        unified_does_all = {"cgroup.kill", "cgroup.freeze"} <= place.features
        spare = {"freezer", "cpuacct"} if unified_does_all else set()
        self._roots = {name: root for name, root in self._roots.items() if name not in spare}
        #: trees in which every group has a folder; two controllers may be mounted as one tree
        self._always = {name: root for name, root in self._roots.items() if name != "cpuset"}
        lists = next(name for name in ("unified", "pids", "memory", "freezer", "cpu") if name in self._roots)
        self._list_root = self._roots[lists]

    def enforced(self) -> tuple[str, ...]:
        """See ``Groups.enforced``."""
        limits = [limit for controller, names in _LIMITS_OF.items() if controller in self._roots for limit in names]
        return (*limits, *(("freeze",) if self._can_freeze() else ()), "kill")

    def missing(self) -> tuple[Missing, ...]:
        """See ``Groups.missing``."""
        missing = [
            Missing(limit, f"no writable cgroup v1 tree of the controller {controller}")
            for controller, limits in _LIMITS_OF.items()
            if controller not in self._roots
            for limit in limits
        ]
        if not self._can_freeze():
            missing.append(Missing("freeze", "no freezer and no cgroup.freeze"))
        return tuple(missing)

    def _can_freeze(self) -> bool:
        return "cgroup.freeze" in self._place.features or "freezer" in self._roots

    def _main(self, path: str) -> Path:
        return self._list_root / path if path else self._list_root

    def _begin(self) -> None:
        """A base needs nothing: v1 lets groups with processes have groups below them."""

    def _end(self) -> None:
        """Nothing was changed."""

    def _make(self, path: str) -> None:
        for root in set(self._always.values()):
            self._files.make(root / path if path else root)

    # Limits

    def _apply(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        missing = self._apply_memory(path, limits.memory_bytes)
        if root := self._roots.get("cpu"):
            folder = root / path
            missing += self._try("cpu_quota", partial(self._set_quota, folder, limits.cpu_quota_cores))
            shares = (limits.cpu_weight or WEIGHT_DEFAULT) * SHARES_DEFAULT // WEIGHT_DEFAULT
            shares = min(SHARES_MAX, max(SHARES_MIN, shares))
            missing += self._try("cpu_weight", partial(self._files.write, folder, "cpu.shares", str(shares)))
        elif limits.cpu_quota_cores or limits.cpu_weight:
            missing += (Missing("cpu_quota", "no cgroup v1 tree of the controller cpu"),)
        missing += self._apply_cpuset(path, limits.cpuset)
        if root := self._roots.get("pids"):
            most = str(limits.pids_max or "max")
            missing += self._try("pids", partial(self._files.write, root / path, "pids.max", most))
        elif limits.pids_max:
            missing += (Missing("pids", "no cgroup v1 tree of the controller pids"),)
        return missing

    def _apply_memory(self, path: str, limit_bytes: int) -> tuple[Missing, ...]:
        root = self._roots.get("memory")
        if root is None:
            return (Missing("memory", "no cgroup v1 tree of the controller memory"),) if limit_bytes else ()
        return self._try("memory", partial(self._set_memory, root / path, str(limit_bytes or -1)))

    def _set_memory(self, folder: Path, limit: str) -> None:
        """Set memory, and memory + swap just above it, so that swap is no way round the limit.

        The kernel keeps the second at or above the first at all times, and counts only hits of the first: a margin of
        more than one charge (a huge page) lets the first be hit first.
        """
        both = "memory.memsw.limit_in_bytes"
        before = self._files.read(folder, both)
        if before:
            self._files.write(folder, both, "-1")
        try:
            self._files.write(folder, "memory.limit_in_bytes", limit)
        except OSError:
            if before:
                self._files.write(folder, both, before)
            raise
        if before:
            self._files.write(folder, both, limit if limit == "-1" else str(int(limit) + SWAP_MARGIN_BYTES))

    def _set_quota(self, folder: Path, cores: float) -> None:
        """Set the ceiling; v1 refuses one above the parent's, which then holds anyway."""
        self._files.write(folder, "cpu.cfs_period_us", str(CPU_PERIOD_USEC))
        try:
            self._files.write(folder, "cpu.cfs_quota_us", str(quota_usec(cores) if cores else -1))
        except OSError as error:
            if error.errno != errno.EINVAL or not self._parent_is_tighter(folder, quota_usec(cores)):
                raise
            self._files.write(folder, "cpu.cfs_quota_us", "-1")

    def _parent_is_tighter(self, folder: Path, quota: int) -> bool:
        for parent in folder.parents:
            text = self._files.read(parent, "cpu.cfs_quota_us")
            if not text:
                return False
            period = number(self._files.read(parent, "cpu.cfs_period_us")) or CPU_PERIOD_USEC
            if number(text) and number(text) * CPU_PERIOD_USEC < quota * period:
                return True
        return False

    def _apply_cpuset(self, path: str, cpuset: str) -> tuple[Missing, ...]:
        root = self._roots.get("cpuset")
        if root is None:
            return (Missing("cpuset", "no cgroup v1 tree of the controller cpuset"),) if cpuset else ()
        if not cpuset and not (root / path).is_dir():
            return ()
        return self._try("cpuset", partial(self._set_cpuset, root, path, cpuset))

    def _set_cpuset(self, root: Path, path: str, cpuset: str) -> None:
        folder = root
        self._fill_cpuset(root)
        for name in check_path(path):
            folder /= name
            self._fill_cpuset(folder)
        wanted = cpuset or self._files.read(folder.parent, "cpuset.cpus")
        self._files.write(folder, "cpuset.cpus", wanted)

    def _fill_cpuset(self, folder: Path) -> None:
        """Make a set with its parent's nodes and cores: an empty one takes no process."""
        self._files.make(folder)
        for file in ("cpuset.mems", "cpuset.cpus"):
            if not self._files.read(folder, file):
                self._files.write(folder, file, self._files.read(folder.parent, file))

    # Processes

    def place(self, path: str, pid: int) -> None:
        """See ``Groups.place``."""
        names = check_path(path)
        for root in dict.fromkeys(self._always.values()):
            self._put(pid, root / path if path else root)
        root_set = self._roots.get("cpuset")
        if root_set is not None and root_set.is_dir():
            self._put(pid, self._nearest_set(root_set, names))

    def _nearest_set(self, root: Path, names: tuple[str, ...]) -> Path:
        """Find the deepest set above a group; without any in the fleet, the base that all of it is below."""
        for depth in range(len(names), -1, -1):
            folder = root.joinpath(*names[:depth])
            if folder.is_dir():
                return folder
        return root.parent

    def _move_out(self, pid: int) -> None:
        for name, root in self._roots.items():
            if root.is_dir():
                self._files.write(self._place.bases[name], "cgroup.procs", str(pid))

    def usage(self, path: str) -> Usage:
        """See ``Groups.usage``."""
        memory = self._folder("memory", path)
        read = self._files.read_kept
        stat = table(read(memory, "memory.stat"))
        cached, shared = stat.get("total_cache", 0), stat.get("total_shmem", 0)
        return Usage(
            memory_bytes=number(read(memory, "memory.usage_in_bytes")),
            memory_peak_bytes=number(read(memory, "memory.max_usage_in_bytes")),
            cpu_usec=self._cpu_usec(path),
            pids=number(read(self._folder("pids", path), "pids.current")),
            oom_kills=table(read(memory, "memory.oom_control")).get("oom_kill", 0),
            anon_bytes=stat.get("total_rss", 0) + shared,
            file_bytes=max(0, cached - shared),
            populated=self._is_populated(path),
            limit_hits=number(read(memory, "memory.failcnt")),
        )

    def reclaim(self, path: str, want_bytes: int, until_s: float) -> Reclaimed:  # noqa: ARG002 v1 knows only all, at once
        """See ``Groups.reclaim``: ``memory.force_empty``, with swapping switched off for that time."""
        check_path(path)
        root = self._roots.get("memory")
        if root is None:
            return Reclaimed(0, "no cgroup v1 tree of the controller memory")
        why = self._force_empty(root / path) if (root / path).is_dir() else "its group has ended"
        return Reclaimed(number(self._files.read(root / path, "memory.usage_in_bytes")), why)

    def _force_empty(self, folder: Path) -> str:
        before = self._files.read(folder, "memory.swappiness")
        try:
            self._files.write(folder, "memory.swappiness", "0")
        except OSError as error:
            return f"memory could be swapped out, which memory.swappiness cannot forbid: {refusal(error)}"
        try:
            self._files.write(folder, "memory.force_empty", "0")
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.EINTR, errno.EAGAIN}:  # less than all is no failure
                return f"memory.force_empty: {refusal(error)}"
        finally:
            with suppress(OSError):  # the group may have ended meanwhile
                self._files.write(folder, "memory.swappiness", before or "60")
        return ""

    def _folder(self, controller: str, path: str) -> str:
        root = self._roots.get(controller)
        if root is None:
            return "/nonexistent"
        return f"{root}/{path}" if path else str(root)

    def _cpu_usec(self, path: str) -> int:
        usec = table(self._files.read_kept(self._folder("unified", path), "cpu.stat")).get("usage_usec", 0)
        return usec or number(self._files.read_kept(self._folder("cpuacct", path), "cpuacct.usage")) // 1_000

    def _is_populated(self, path: str) -> bool:
        if events := self._files.read_kept(self._folder("unified", path), "cgroup.events"):
            return "populated 1" in events
        return bool(self._files.pids(self._main(path)))

    def freeze(self, path: str) -> None:
        """See ``Groups.freeze``."""
        check_path(path)
        folder = self._main(path)
        if "cgroup.freeze" in self._place.features:
            with suppress(OSError):
                self._files.write(folder, "cgroup.freeze", "1")
            self._wait_frozen(lambda: "frozen 1" in self._files.read(folder, "cgroup.events"))
        elif root := self._roots.get("freezer"):
            with suppress(OSError):
                self._files.write(root / path, "freezer.state", "FROZEN")
            self._wait_frozen(lambda: self._files.read(root / path, "freezer.state") in {"FROZEN", ""})

    def thaw(self, path: str) -> None:
        """See ``Groups.thaw``."""
        check_path(path)
        if "cgroup.freeze" in self._place.features:
            with suppress(OSError):
                self._files.write(self._main(path), "cgroup.freeze", "0")
        elif root := self._roots.get("freezer"):
            with suppress(OSError):
                self._files.write(root / path, "freezer.state", "THAWED")
