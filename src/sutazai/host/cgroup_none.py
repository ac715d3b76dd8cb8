"""Why it exists: without a writable cgroup tree a fleet still runs, but it must say what nobody holds.

What is left: ``RLIMIT_DATA`` for each process (private writable memory; ``RLIMIT_AS`` would count address space that no
one uses, and break every Python process with threads), CPU affinity that a process could undo, memory as sampled.
``RLIMIT_NPROC`` counts all processes of the user, not of a group, so it is not set. Membership is kept in a file, with
start times, so that it is found again after a restart; children are found by their parents.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from sutazai.errors import HostError
from sutazai.host import cpus, procfs
from sutazai.host.cgroup import NO_LIMITS, LimitsLike, Missing, Reclaimed, Usage
from sutazai.host.cgroup_files import check_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sutazai.host.psi import Pressure

_NO_GROUPS = "this process cannot write any cgroup tree"
_KILL_ROUNDS = 20
SAMPLE_S = 3.0
_WHY = {
    "memory": f"{_NO_GROUPS}: RLIMIT_DATA limits each process, which can undo it, not their sum; use is only sampled",
    "cpu_quota": _NO_GROUPS,
    "cpu_weight": _NO_GROUPS,
    "cpuset": f"{_NO_GROUPS}: cores are set as affinity, which a process can undo",
    "pids": f"{_NO_GROUPS}: RLIMIT_NPROC counts all processes of a user, so it is not set",
    "kill": f"{_NO_GROUPS}: a child whose parents have all ended is not found",
}


class NoGroups:
    """Groups in name only: members by pid and start time, limits as far as an unprivileged process can set them."""

    version: Literal["none"] = "none"

    def __init__(self, state_dir: Path) -> None:
        """Read the members that an earlier process wrote down."""
        self._file = state_dir / "groups.json"
        self._members: dict[str, list[procfs.Identity]] = {}
        self._limits: dict[str, LimitsLike] = {}
        self._peaks: dict[str, int] = {}
        self._samples: dict[str, tuple[float, list[int], procfs.Memory]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            for path, entries in json.loads(self._file.read_text()).items():
                members = [procfs.Identity(int(pid), int(start)) for pid, start in entries]
                self._members[path] = [member for member in members if procfs.is_alive(member)]

    def enforced(self) -> tuple[str, ...]:
        """See ``Groups.enforced``."""
        return ("freeze",)

    def missing(self) -> tuple[Missing, ...]:
        """See ``Groups.missing``."""
        return tuple(Missing(limit, why) for limit, why in _WHY.items())

    def ensure(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        """See ``Groups.ensure``."""
        names = check_path(path)
        for depth in range(1, len(names) + 1):
            self._members.setdefault("/".join(names[:depth]), [])
        self._limits[path] = limits
        asked = {
            "memory": limits.memory_bytes,
            "cpu_quota": limits.cpu_quota_cores,
            "cpu_weight": limits.cpu_weight,
            "cpuset": limits.cpuset,
            "pids": limits.pids_max,
        }
        return tuple(Missing(limit, _WHY[limit]) for limit, value in asked.items() if value)

    def prepare(self) -> None:
        """Nothing to prepare."""

    def place(self, path: str, pid: int) -> None:
        """See ``Groups.place``."""
        if path not in self._members:
            raise HostError(f"there is no group {path}: ensure it before placing pid {pid}")
        identity = procfs.identity(pid)
        if identity is None:
            raise ProcessLookupError(pid)
        for members in self._members.values():
            if identity in members:
                members.remove(identity)
        self._members[path].append(identity)
        self._write()
        limits = self._limits.get(path, NO_LIMITS)
        if limits.memory_bytes:
            # The soft limit only: a worker inherits its zygote's, and an unprivileged process never raises a hard one.
            with suppress(OSError, ValueError):
                hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
                resource.prlimit(pid, resource.RLIMIT_DATA, (limits.memory_bytes, hard))
        if limits.cpuset:
            with suppress(OSError, ValueError):
                os.sched_setaffinity(pid, cpus.parse_list(limits.cpuset))

    def usage(self, path: str) -> Usage:
        """See ``Groups.usage``."""
        pids = self.pids(path)
        memory = self._memory(path, pids)
        return Usage(
            memory_bytes=memory.pss_bytes,
            memory_peak_bytes=self._peaks.get(path, 0),
            cpu_usec=sum(procfs.cpu_usec(pid) for pid in pids),
            pids=len(pids),
            anon_bytes=memory.anon_bytes,
            file_bytes=memory.file_bytes,
            populated=bool(pids),
        )

    def _memory(self, path: str, pids: list[int]) -> procfs.Memory:
        """Add up the processes' shares; measured every few seconds only: a large process costs a millisecond."""
        now_s = time.monotonic()
        sampled = self._samples.get(path)
        if sampled is not None and sampled[1] == pids and now_s - sampled[0] < SAMPLE_S:
            return sampled[2]
        found = [memory for pid in pids if (memory := procfs.memory(pid)) is not None]
        total = procfs.Memory(
            pss_bytes=sum(memory.pss_bytes for memory in found),
            anon_bytes=sum(memory.anon_bytes for memory in found),
            file_bytes=sum(memory.file_bytes for memory in found),
        )
        self._samples[path] = (now_s, pids, total)
        self._peaks[path] = max(self._peaks.get(path, 0), total.pss_bytes)
        return total

    def pressure(self, path: str, resource: Literal["memory", "cpu", "io"]) -> Pressure | None:  # noqa: ARG002 there is none
        """No group, no pressure of a group."""
        return None

    def pids(self, path: str, *, recursive: bool = True) -> list[int]:
        """See ``Groups.pids``; children of members are members."""
        check_path(path)
        found: set[int] = set()
        for group, members in self._members.items():
            if group == path or (recursive and (not path or group.startswith(f"{path}/"))):
                found.update(member.pid for member in members if procfs.is_alive(member))
        return sorted(procfs.descendants(found) | found) if found else []

    def children(self, path: str) -> list[str]:
        """See ``Groups.children``."""
        depth = len(check_path(path))
        below = [group.split("/") for group in self._members if not path or group.startswith(f"{path}/")]
        return sorted({names[depth] for names in below if len(names) > depth})

    def exists(self, path: str) -> bool:
        """See ``Groups.exists``."""
        return path in self._members

    def reclaim(self, path: str, want_bytes: int, until_s: float) -> Reclaimed:  # noqa: ARG002 nothing can be done
        """See ``Groups.reclaim``: there is no group whose cache could be given back."""
        return Reclaimed(self.usage(path).memory_bytes, _NO_GROUPS)

    def freeze(self, path: str) -> None:
        """See ``Groups.freeze``."""
        self._signal(path, signal.SIGSTOP)

    def thaw(self, path: str) -> None:
        """See ``Groups.thaw``."""
        self._signal(path, signal.SIGCONT)

    def kill(self, path: str) -> None:
        """See ``Groups.kill``; stopped first, so that fewer can fork away."""
        for _ in range(_KILL_ROUNDS):
            self._signal(path, signal.SIGSTOP)
            pids = self.pids(path)
            self._signal(path, signal.SIGKILL)
            if not set(self.pids(path)) - set(pids):
                return

    def _signal(self, path: str, number: signal.Signals) -> None:
        for pid in self.pids(path):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def remove(self, path: str) -> bool:
        """See ``Groups.remove``."""
        if self.pids(path):
            return False
        for group in [group for group in self._members if not path or group == path or group.startswith(f"{path}/")]:
            del self._members[group]
            self._limits.pop(group, None)
            self._peaks.pop(group, None)
            self._samples.pop(group, None)
        self._write()
        return True

    def destroy(self, keep: Iterable[int] = ()) -> bool:
        """See ``Groups.destroy``; does not wait: without groups it only sends the signals."""
        spared = {os.getpid(), *keep}
        for members in self._members.values():
            members[:] = [member for member in members if member.pid not in spared]
        self.kill("")
        gone = self.remove("")
        if gone:
            self._file.unlink(missing_ok=True)
        return gone

    def _write(self) -> None:
        entries = {path: [[m.pid, m.start_ticks] for m in members] for path, members in self._members.items()}
        temporary = self._file.with_suffix(".new")
        with suppress(OSError):  # a full disk: members are known until this process ends
            temporary.write_text(json.dumps(entries))
            temporary.replace(self._file)
