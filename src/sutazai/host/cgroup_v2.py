"""Why it exists: cgroup v2, what most hosts have: one tree, controllers switched on from parent to child.

Rules of the kernel that shape this driver (https://docs.kernel.org/admin-guide/cgroup-v2.html): only a leaf may hold
processes, so a delegated base gives its own processes to a leaf of theirs (``<root>.self``); a controller must be on in
every parent's ``cgroup.subtree_control``.
"""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

from sutazai.host.cgroup import LimitsLike, Missing, Reclaimed, Usage
from sutazai.host.cgroup_detect import V2_CONTROLLERS, leaf_name
from sutazai.host.cgroup_files import check_path, number, refusal, table
from sutazai.host.cgroup_tree import CPU_PERIOD_USEC, GroupTree, quota_usec
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.host.cgroup_detect import Place

RECLAIM_PART_BYTES = 64 * MIB
_LIMITS_OF = {"memory": ("memory",), "cpu": ("cpu_quota", "cpu_weight"), "cpuset": ("cpuset",), "pids": ("pids",)}


class GroupsV2(GroupTree):
    """Groups in a v2 tree."""

    version: Literal["v2"] = "v2"

    def __init__(self, place: Place) -> None:
        """Look which controllers the base has."""
        super().__init__(place)
        self._base = place.bases["unified"]
        self._root = self._roots["unified"]
        self._root_text = str(self._root)
        offered = set(self._files.read(self._base, "cgroup.controllers").split())
        self._controllers = tuple(name for name in V2_CONTROLLERS if name in offered)

    def enforced(self) -> tuple[str, ...]:
        """See ``Groups.enforced``."""
        limits = [limit for controller in self._controllers for limit in _LIMITS_OF[controller]]
        return (*limits, "freeze", "kill")

    def missing(self) -> tuple[Missing, ...]:
        """See ``Groups.missing``."""
        return tuple(
            Missing(limit, f"the controller {controller} is not delegated to {self._base}")
            for controller, limits in _LIMITS_OF.items()
            if controller not in self._controllers
            for limit in limits
        )

    def _main(self, path: str) -> Path:
        return self._root / path if path else self._root

    def _begin(self) -> None:
        if not self._place.is_top:
            leaf = self._base / leaf_name(self._name)
            own = self._files.pids(self._base, recursive=False)
            if own:
                self._files.make(leaf)
            for pid in own:
                with suppress(OSError):  # it may have ended, or be a kernel thread
                    self._files.write(leaf, "cgroup.procs", str(pid))
        self._switch_on(self._base)

    def _switch_on(self, folder: Path) -> None:
        on = set(self._files.read(folder, "cgroup.subtree_control").split())
        for controller in self._controllers:
            if controller not in on:
                with suppress(OSError):  # what stays off is told when a limit needs it
                    self._files.write(folder, "cgroup.subtree_control", f"+{controller}")

    def _make(self, path: str) -> None:
        folder = self._main(path)
        if path:
            self._switch_on(folder.parent)
        self._files.make(folder)

    def _apply(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        folder = self._main(path)
        write = partial(self._files.write, folder)
        quota = quota_usec(limits.cpu_quota_cores) if limits.cpu_quota_cores else "max"
        wanted = (
            ("memory", bool(limits.memory_bytes), partial(self._set_memory, folder, limits.memory_bytes)),
            ("cpu_quota", bool(limits.cpu_quota_cores), partial(write, "cpu.max", f"{quota} {CPU_PERIOD_USEC}")),
            ("cpu_weight", bool(limits.cpu_weight), partial(write, "cpu.weight", str(limits.cpu_weight or 100))),
            ("cpuset", bool(limits.cpuset), partial(write, "cpuset.cpus", limits.cpuset or "\n")),
            ("pids", bool(limits.pids_max), partial(write, "pids.max", str(limits.pids_max or "max"))),
        )
        missing: tuple[Missing, ...] = ()
        for limit, is_asked, action in wanted:
            refused = self._try(limit, action)
            missing += refused if is_asked else ()
        return missing

    def _set_memory(self, folder: Path, limit_bytes: int) -> None:
        """Set the hard limit; what is above it is asked back first, because v2 kills what does not fit."""
        if limit_bytes and number(self._files.read(folder, "memory.current")) > limit_bytes:
            self._files.write(folder, "memory.high", str(limit_bytes))
            fits = number(self._files.read(folder, "memory.current")) <= limit_bytes
            self._files.write(folder, "memory.high", "max")
            if not fits:
                raise OSError(16, "the group uses more than its new limit")
        self._files.write(folder, "memory.max", str(limit_bytes or "max"))
        with suppress(OSError):  # a kernel without swap accounting
            self._files.write(folder, "memory.swap.max", "0" if limit_bytes else "max")

    def place(self, path: str, pid: int) -> None:
        """See ``Groups.place``."""
        check_path(path)
        self._put(pid, self._main(path))

    def _move_out(self, pid: int) -> None:
        if self._place.is_top:
            self._files.write(self._base, "cgroup.procs", str(pid))
            return
        leaf = self._base / leaf_name(self._name)
        self._files.make(leaf)
        self._files.write(leaf, "cgroup.procs", str(pid))

    def _end(self) -> None:
        if self._place.is_top:
            return  # other programs' groups live there
        leaf = self._base / leaf_name(self._name)
        for controller in self._controllers:
            with suppress(OSError):
                self._files.write(self._base, "cgroup.subtree_control", f"-{controller}")
        for pid in self._files.pids(leaf, recursive=False):
            with suppress(OSError):
                self._files.write(self._base, "cgroup.procs", str(pid))
        self._files.drop(leaf)

    def usage(self, path: str) -> Usage:
        """See ``Groups.usage``."""
        folder = f"{self._root_text}/{path}" if path else self._root_text
        read = self._files.read_kept
        stat = table(read(folder, "memory.stat"))
        shared = stat.get("shmem", 0)
        events = table(read(folder, "memory.events.local") or read(folder, "memory.events"))
        return Usage(
            memory_bytes=number(read(folder, "memory.current")),
            memory_peak_bytes=number(read(folder, "memory.peak")),
            cpu_usec=table(read(folder, "cpu.stat")).get("usage_usec", 0),
            pids=number(read(folder, "pids.current")),
            oom_kills=events.get("oom_kill", 0),
            anon_bytes=stat.get("anon", 0) + shared,
            file_bytes=max(0, stat.get("file", 0) - shared),
            populated="populated 1" in read(folder, "cgroup.events"),
            limit_hits=events.get("oom", 0),
        )

    def reclaim(self, path: str, want_bytes: int, until_s: float) -> Reclaimed:
        """See ``Groups.reclaim``: ``memory.reclaim`` in parts, of files only."""
        check_path(path)
        folder = self._main(path)
        why = self._drop_files(folder, want_bytes, until_s) if folder.is_dir() else "its group has ended"
        return Reclaimed(number(self._files.read(folder, "memory.current")), why)

    def _drop_files(self, folder: Path, left: int, until_s: float) -> str:
        only_files = " swappiness=0"
        while left > 0 and time.monotonic() < until_s:
            part = min(left, RECLAIM_PART_BYTES)
            try:
                self._files.write(folder, "memory.reclaim", f"{part}{only_files}")
            except OSError as error:
                if error.errno == errno.EAGAIN:  # less than asked for: there is no more
                    return ""
                if error.errno != errno.EINVAL or not only_files:
                    return f"memory.reclaim: {refusal(error)}"
                if self._files.read(folder, "memory.swap.max") not in {"0", ""}:
                    return "memory could be swapped out: this kernel's memory.reclaim cannot spare it (Linux 6.9 can)"
                only_files = ""
                continue
            left -= part
        return ""

    def _is_populated(self, path: str) -> bool:
        return "populated 1" in self._files.read(self._main(path), "cgroup.events")

    def freeze(self, path: str) -> None:
        """See ``Groups.freeze``."""
        check_path(path)
        folder = self._main(path)
        with suppress(OSError):
            self._files.write(folder, "cgroup.freeze", "1")
        self._wait_frozen(lambda: "frozen 1" in self._files.read(folder, "cgroup.events"))

    def thaw(self, path: str) -> None:
        """See ``Groups.thaw``."""
        check_path(path)
        with suppress(OSError):
            self._files.write(self._main(path), "cgroup.freeze", "0")
