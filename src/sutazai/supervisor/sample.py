"""Why it exists: the kernel is read once a tick and nowhere else; an answer about the fleet costs no reading."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sutazai.host import disk, facts, procfs, psi

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.host.cgroup import Groups, Usage


class Sampler:
    """The latest look at groups and host.

    Attributes:
        usages: by path of the group.
        host: as it stands in ``status``.
    """

    def __init__(self, groups: Groups, state_dir: Path) -> None:
        self.usages: dict[str, Usage] = {}
        self.host: dict[str, Any] = {}
        self.disk_free_bytes = 0
        self._groups = groups
        self._state_dir = state_dir
        self._total_bytes = facts.memory_total_bytes()

    def look(self, paths: list[str]) -> None:
        """Read everything once."""
        self.usages = {path: self._groups.usage(path) for path in paths}
        self.disk_free_bytes = disk.free_bytes(self._state_dir)
        stalls = {name: psi.read(name) for name in psi.RESOURCES}
        self.host = {
            "memory_total_bytes": self._total_bytes,
            "memory_available_bytes": facts.memory_available_bytes(),
            "disk_free_bytes": self.disk_free_bytes,
            "cores": os.cpu_count() or 1,
            "load1": procfs.load1(),
            "psi": {
                name: {"some_avg10": stall.some.avg10, "full_avg10": stall.full.avg10}
                for name, stall in stalls.items()
                if stall is not None
            },
        }
