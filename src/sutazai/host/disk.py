"""Why it exists: a full disk is met before it is hit: how much an unprivileged writer can still write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system.

    Attributes:
        total_bytes: size.
        free_bytes: free for a normal user.
        inodes_free: files that can still be made; 0 where the file system does not count them.
    """

    total_bytes: int
    free_bytes: int
    inodes_free: int


def disk(path: Path) -> Disk:
    """Read the file system that holds ``path``, or its nearest parent that exists.

    Raises:
        OSError: it cannot be read.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    facts = os.statvfs(path)
    return Disk(facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize, facts.f_favail)


def free_bytes(path: Path) -> int:
    """Read how much a normal user can still write where ``path`` is, bytes."""
    return disk(path).free_bytes
