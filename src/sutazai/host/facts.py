"""Why it exists: a machine's size is what we may use of it, not what is printed on it: limits laid on us count, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.host import cgroup_detect, procfs
from sutazai.host.cgroup import SYSTEM_ROOT

if TYPE_CHECKING:
    from pathlib import Path

_UNLIMITED_BYTES = 1 << 60  # v1 writes "no limit" as a number close to 2**63


def memory_total_bytes(system: Path = SYSTEM_ROOT) -> int:
    """Memory that this process and its children can have: the least of ``MemTotal`` and our groups' limits."""
    limits = [limit for limit, _ in _own_limits(system)]
    return min([procfs.meminfo(system / "proc").total_bytes, *limits])


def memory_available_bytes(system: Path = SYSTEM_ROOT) -> int:
    """Memory that can still be had: the least of ``MemAvailable`` and the room below our groups' limits."""
    rooms = [max(0, limit - used) for limit, used in _own_limits(system)]
    return min([procfs.meminfo(system / "proc").available_bytes, *rooms])


def _own_limits(system: Path) -> list[tuple[int, int]]:
    """Limit and use of each limited group that we are in; page cache that can be dropped is not counted as used."""
    found = []
    for folder in cgroup_detect.own_folders("memory", system):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(folder / limit_file)
            if limit is not None and limit < _UNLIMITED_BYTES:
                used = _number(folder / used_file) or 0
                found.append((limit, max(0, used - _inactive_file(folder))))
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _inactive_file(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    text = values.get("total_inactive_file", values.get("inactive_file", "0"))
    return int(text) if text.isdecimal() else 0
