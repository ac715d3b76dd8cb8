"""Why it exists: "how many cores may we use" has three answers (machine, affinity, quota); the least is true."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.host.cgroup import SYSTEM_ROOT

if TYPE_CHECKING:
    from pathlib import Path

CORES_MAX = 4_096
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Core:
    """One logical core.

    Attributes:
        number: as the kernel counts.
        package: socket.
        physical: core within its package; two logical cores with the same one are hyper-threads.
    """

    number: int
    package: int
    physical: int


def parse_list(text: str) -> frozenset[int]:
    """Read a list of cores, like ``0-3,8``.

    Raises:
        ValueError: it is no such list, or names a core above 4 095.
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        if not part:
            continue
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is no list of cores: write it like 0-3,8")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high or high >= CORES_MAX:
            raise ValueError(f"{text!r} is no list of cores: {part} is not a range below {CORES_MAX}")
        found.update(range(low, high + 1))
    return frozenset(found)


def format_list(cores: frozenset[int] | set[int]) -> str:
    """Write cores as the kernel does: ``0-3,8``."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def affinity() -> frozenset[int]:
    """Cores that this process may run on; its cgroup's cpuset is in it."""
    return frozenset(os.sched_getaffinity(0))


def quota_cores(system: Path = SYSTEM_ROOT) -> float | None:
    """Read the tightest CPU ceiling of our own group and the groups above it, cores; None without one."""
    from sutazai.host import cgroup_detect

    least: float | None = None
    for folder in cgroup_detect.own_folders("cpu", system):
        quota = _quota(folder)
        if quota is not None:
            least = quota if least is None else min(least, quota)
    return least


def _quota(folder: Path) -> float | None:
    for quota_file, period_file in (("cpu.max", ""), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = (folder / quota_file).read_text().split()
            if period_file:
                words += (folder / period_file).read_text().split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def usable_cores(system: Path = SYSTEM_ROOT) -> float:
    """Read how much processor this process and its children can have: the least of affinity and quota, cores."""
    quota = quota_cores(system)
    count = float(len(affinity()))
    return count if quota is None else min(count, quota)


def topology(system: Path = SYSTEM_ROOT) -> list[Core]:
    """List the online logical cores, in order of their numbers; empty when the kernel does not say."""
    found = []
    base = system / "sys/devices/system/cpu"
    try:
        online = parse_list((base / "online").read_text())
    except (OSError, ValueError):
        return []
    for number in sorted(online):
        try:
            package = int((base / f"cpu{number}/topology/physical_package_id").read_text())
            physical = int((base / f"cpu{number}/topology/core_id").read_text())
        except (OSError, ValueError):
            package, physical = 0, number
        found.append(Core(number, package, physical))
    return found
