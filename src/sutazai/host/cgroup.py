"""Why it exists: budgets must hold when our own code is wrong, so the kernel holds them: one group for each process.

This module is the interface (``Groups``) and its choice (``detect_groups``); ``cgroup_v2``, ``cgroup_v1`` and
``cgroup_none`` are its three drivers. Groups are nested, fleet → pool → process; the fleet's group has the fleet's name
and a digest of its state folder, so that two fleets on one machine never meet. Names, kernel files and rules:
https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.host.psi import Pressure

SYSTEM_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses now; a file that this kernel lacks counts as 0.

    Attributes:
        memory_bytes: charged to the group and the groups below it, page cache included.
        memory_peak_bytes: highest ``memory_bytes`` since the group was made.
        cpu_usec: processor time of all its processes, also of ended ones, microseconds.
        pids: processes and threads.
        oom_kills: processes of this very group that the kernel killed for memory (groups below are not counted).
        anon_bytes: memory that cannot be dropped without swap: anonymous and shared memory.
        file_bytes: page cache that the kernel can drop.
        populated: whether a process lives in it or below it.
        limit_hits: how often it reached its own memory limit (page cache counts); 0 after an OOM kill means that the
            limit of a group above it was hit, not its own.
    """

    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_usec: int = 0
    pids: int = 0
    oom_kills: int = 0
    anon_bytes: int = 0
    file_bytes: int = 0
    populated: bool = False
    limit_hits: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """A limit that was asked for and is not held.

    Attributes:
        limit: ``memory``, ``swap``, ``cpu_quota``, ``cpu_weight``, ``cpuset``, ``pids``, ``freeze``, ``kill``.
        why: for a person.
    """

    limit: str
    why: str


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What became of a request for page cache.

    Attributes:
        memory_bytes: of the group, afterwards.
        why: it is not possible here; empty when the kernel did what it could.
    """

    memory_bytes: int
    why: str = ""


class LimitsLike(Protocol):
    """Anything with the five limits, like ``supervisor.contract.Limits``."""

    @property
    def memory_bytes(self) -> int:
        """Hard limit; 0 is none."""
        ...

    @property
    def cpu_quota_cores(self) -> float:
        """Hard ceiling, cores; 0 is none."""
        ...

    @property
    def cpu_weight(self) -> int:
        """Share under contention, 1–10 000; 0 keeps the kernel's 100."""
        ...

    @property
    def cpuset(self) -> str:
        """Cores as the kernel writes them (``0-3,8``); empty is all of the parent."""
        ...

    @property
    def pids_max(self) -> int:
        """Processes and threads; 0 is no limit."""
        ...


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What the kernel is to hold for one group; see ``LimitsLike``."""

    memory_bytes: int = 0
    cpu_quota_cores: float = 0.0
    cpu_weight: int = 0
    cpuset: str = ""
    pids_max: int = 0


NO_LIMITS = GroupLimits()


class Groups(Protocol):
    """The groups of one fleet. A path is ``pool/process``, any depth; ``""`` is the fleet's root group."""

    @property
    def version(self) -> Literal["v1", "v2", "none"]:
        """Which driver this is."""
        ...

    def enforced(self) -> tuple[str, ...]:
        """Names of the limits that the kernel holds here; the names of ``Missing.limit``."""
        ...

    def missing(self) -> tuple[Missing, ...]:
        """Limits that this host cannot hold, and why."""
        ...

    def ensure(self, path: str, limits: LimitsLike) -> tuple[Missing, ...]:
        """Make a group, or change its limits; parents are made first. Asking twice is harmless and cheap.

        A memory limit is never put below what the group cannot give back: that would kill it.

        Returns:
            The limits of this call that are not held.

        Raises:
            HostError: the group cannot be made.
        """
        ...

    def prepare(self) -> None:
        """Say that ``place`` follows within milliseconds; returns at once.

        Placing waits for a grace period of the kernel (5–15 ms after a pause). This begins the wait in a thread, so
        that it overlaps with the fork of the process that is to be placed.
        """
        ...

    def place(self, path: str, pid: int) -> None:
        """Move a process, with all its threads, into a group; its later children are born there.

        Raises:
            ProcessLookupError: it is gone.
            HostError: the kernel refused.
        """
        ...

    def usage(self, path: str) -> Usage:
        """Read what a group uses; all zero when it does not exist."""
        ...

    def pressure(self, path: str, resource: Literal["memory", "cpu", "io"]) -> Pressure | None:
        """Read how long a group's processes waited for a resource; None when this kernel does not say."""
        ...

    def pids(self, path: str, *, recursive: bool = True) -> list[int]:
        """Processes in a group (and below it)."""
        ...

    def children(self, path: str) -> list[str]:
        """Names of the groups directly below."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the group is there."""
        ...

    def reclaim(self, path: str, want_bytes: int, until_s: float) -> Reclaimed:
        """Give back page cache of a group, and nothing else: no limit is touched and nothing is swapped out.

        Blocks, on v1 for as long as the kernel takes: call it in a thread. Uses no descriptor that others use.

        Args:
            path: of the group.
            want_bytes: enough when so much was given back; v1 knows only all.
            until_s: monotonic time after which no further part is asked for.

        Returns:
            What the group uses afterwards. That the kernel gave back less than was asked for is no failure.
        """
        ...

    def freeze(self, path: str) -> None:
        """Stop all its processes without their knowledge; frees no memory."""
        ...

    def thaw(self, path: str) -> None:
        """Let frozen processes go on."""
        ...

    def kill(self, path: str) -> None:
        """Send SIGKILL to every process in it and below it, also forking and frozen ones; returns at once."""
        ...

    def remove(self, path: str) -> bool:
        """Remove a group and the empty groups below it.

        Returns:
            True when it is gone; False while processes are in it.
        """
        ...

    def destroy(self, keep: Iterable[int] = ()) -> bool:
        """End the fleet's whole tree: kill, wait (at most some seconds), remove.

        Args:
            keep: processes that are moved out instead of killed; the calling process always is.

        Returns:
            True when nothing is left.
        """
        ...


def root_name(fleet: str, state_dir: Path) -> str:
    """Name of a fleet's root group: two fleets of one name with other state folders differ."""
    digest = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:8]
    return f"sutazai-{fleet}-{digest}"


def detect_groups(fleet: str, state_dir: Path, *, system: Path = SYSTEM_ROOT) -> Groups:
    """Choose the driver that this host allows: v2, v1, or none.

    Makes no group yet (only a probe that it removes). A fleet that has groups already is found again, whatever groups
    the calling process is in now: ``<state_dir>/cgroup.json`` remembers where, and is checked against the kernel.

    Args:
        fleet: name of the fleet.
        state_dir: its folder that outlives a reboot.
        system: root of the file system that holds ``proc`` and ``sys``; a fixture in tests.
    """
    from sutazai.host import cgroup_detect, cgroup_none, cgroup_v1, cgroup_v2

    place = cgroup_detect.find_place(root_name(fleet, state_dir), state_dir, system)
    if place is None:
        return cgroup_none.NoGroups(state_dir)
    if place.version == "v2":
        return cgroup_v2.GroupsV2(place)
    return cgroup_v1.GroupsV1(place)
