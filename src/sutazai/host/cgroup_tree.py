"""Why it exists: v1 and v2 differ in their files, not in how a tree of groups is named, killed, emptied and removed."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from sutazai.errors import HostError
from sutazai.host import psi
from sutazai.host.cgroup import LimitsLike, Missing
from sutazai.host.cgroup_files import check_path, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from sutazai.host.cgroup_detect import Place

CPU_PERIOD_USEC = 100_000
CPU_QUOTA_USEC_MIN = 1_000
EMPTY_WAIT_S = 10.0
_KILL_ROUNDS = 50
_FREEZE_POLLS = 100


class GroupTree(ABC):
    """What both versions share: a tree in one or more hierarchies, each with its own base folder."""

    def __init__(self, place: Place) -> None:
        """Use the bases that ``find_place`` chose; makes nothing yet."""
        self._place = place
        self._files = place.files
        self._name = place.name
        self._roots: dict[str, Path] = {controller: base / place.name for controller, base in place.bases.items()}
        self._applied: dict[str, tuple[tuple[object, ...], tuple[Missing, ...]]] = {}
        self._made: set[str] = set()
        self._began = False

    # What a version fills in

    @abstractmethod
    def _begin(self) -> None:
        """Make the base ready for the first group."""

    @abstractmethod
    def _make(self, path: str) -> None:
        """Make one group whose parent exists."""

    @abstractmethod
    def _apply(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        """Write limits; return those that are not held."""

    @abstractmethod
    def _main(self, path: str) -> Path:
        """Folder of a group in the hierarchy that lists its processes."""

    @abstractmethod
    def _is_populated(self, path: str) -> bool:
        """Whether a process lives in a group or below it."""

    # Groups

    def ensure(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        """See ``Groups.ensure``."""
        names = check_path(path)
        if not self._began:
            self._begin()
            self._place.remember()
            self._began = True
        for depth in range(len(names) + 1):
            group = "/".join(names[:depth])
            if group in self._made:
                continue
            try:
                self._make(group)
            except OSError as error:
                raise HostError(
                    f"cannot make the group {self._name}/{group}: {refusal(error)}; run: sutazai doctor"
                ) from error
            self._made.add(group)
        wanted = (limits.memory_bytes, limits.cpu_quota_cores, limits.cpu_weight, limits.cpuset, limits.pids_max)
        applied = self._applied.get(path)
        if applied is None or applied[0] != wanted:
            missing = self._apply(path, limits)
            applied = self._applied[path] = (wanted, missing)
            if missing:
                del self._applied[path]  # the next call tries again
        return applied[1]

    def prepare(self) -> None:
        """See ``Groups.prepare``; moving ourselves into the group that we are in starts the kernel's grace period."""
        threading.Thread(target=self._stay, name="cgroup-prepare", daemon=True).start()

    def _stay(self) -> None:
        folder = self._place.own_folder()
        if folder is not None:
            with suppress(OSError):
                self._files.write(folder, "cgroup.procs", str(os.getpid()))

    def children(self, path: str) -> list[str]:
        """See ``Groups.children``."""
        check_path(path)
        return self._files.folders(self._main(path))

    def exists(self, path: str) -> bool:
        """See ``Groups.exists``."""
        check_path(path)
        return self._main(path).is_dir()

    def pids(self, path: str, *, recursive: bool = True) -> list[int]:
        """See ``Groups.pids``."""
        check_path(path)
        return self._files.pids(self._main(path), recursive=recursive)

    def pressure(self, path: str, resource: Literal["memory", "cpu", "io"]) -> psi.Pressure | None:
        """See ``Groups.pressure``."""
        root = self._roots.get("unified")
        if root is None:
            return None
        return psi.parse(self._files.read_kept(f"{root}/{path}" if path else str(root), f"{resource}.pressure"))

    def remove(self, path: str) -> bool:
        """See ``Groups.remove``."""
        check_path(path)
        if self._is_populated(path):
            return False
        gone = True
        for root in set(self._roots.values()):
            gone = self._files.drop_tree(root / path if path else root) and gone
        stale = [group for group in self._made if group == path or group.startswith(f"{path}/") or not path]
        for group in stale:
            self._made.discard(group)
            self._applied.pop(group, None)
        return gone

    def destroy(self, keep: Iterable[int] = ()) -> bool:
        """See ``Groups.destroy``."""
        for pid in {os.getpid(), *keep} & set(self.pids("")):
            with suppress(OSError):
                self._move_out(pid)
        self.kill("")
        deadline = time.monotonic() + EMPTY_WAIT_S
        while not self.remove(""):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self._end()
        self._place.forget()
        self._began = False
        return True

    @abstractmethod
    def _move_out(self, pid: int) -> None:
        """Move a process out of the fleet's tree."""

    @abstractmethod
    def _end(self) -> None:
        """Undo what ``_begin`` did to the base."""

    def kill(self, path: str) -> None:
        """See ``Groups.kill``."""
        check_path(path)
        if "cgroup.kill" in self._place.features:
            with suppress(OSError):
                self._files.write(self._main(path), "cgroup.kill", "1")
            return
        self._kill_by_signals(path)

    def _kill_by_signals(self, path: str) -> None:
        """Kill without ``cgroup.kill``: a frozen tree cannot fork away from the signals."""
        self.freeze(path)
        for _ in range(_KILL_ROUNDS):
            pids = self.pids(path)
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.thaw(path)
            if not pids:
                return
            time.sleep(0.001)
            self.freeze(path)
        self.thaw(path)

    @abstractmethod
    def freeze(self, path: str) -> None:
        """See ``Groups.freeze``."""

    @abstractmethod
    def thaw(self, path: str) -> None:
        """See ``Groups.thaw``."""

    # Writes

    def _put(self, pid: int, folder: Path) -> None:
        try:
            self._files.write(folder, "cgroup.procs", str(pid))
        except ProcessLookupError:
            raise
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise HostError(f"there is no group {folder}: ensure it before placing pid {pid}") from error
            raise HostError(f"cannot place pid {pid} in {folder}: {refusal(error)}") from error

    def _try(self, limit: str, write: Callable[[], None]) -> tuple[Missing, ...]:
        try:
            write()
        except OSError as error:
            return (Missing(limit, refusal(error)),)
        return ()

    def _wait_frozen(self, is_frozen: Callable[[], bool]) -> None:
        for _ in range(_FREEZE_POLLS):
            if is_frozen():
                return
            time.sleep(0.001)


def quota_usec(cores: float) -> int:
    """Processor time a period, microseconds; the kernel takes no less than 1 ms."""
    return max(CPU_QUOTA_USEC_MIN, round(cores * CPU_PERIOD_USEC))
