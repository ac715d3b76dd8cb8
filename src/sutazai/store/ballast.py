"""Why it exists: a full disk must not stop accepted work, so room for finishing it is set aside beforehand.

A pre-allocated file lies next to the store. When the disk is full it is given up, new submissions are refused, and
what was accepted is finished in the room it leaves. As soon as the disk has room again the file is made anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Ballast:
    """The pre-allocated file.

    Args:
        path: where.
        size_bytes: how much; 0 switches it off (a store in memory).
    """

    def __init__(self, path: Path | None, size_bytes: int) -> None:
        self._path, self._size_bytes = path, size_bytes
        self.full = False

    def _free_bytes(self) -> int:
        if self._path is None:
            return 1 << 62
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    def prepare(self) -> bool:
        """Set the room aside if the disk has twice as much; ``full`` says whether it could not.

        Returns:
            Whether submissions may be taken.
        """
        if self._path is None or self._size_bytes == 0:
            return True
        present = self._path.exists() and self._path.stat().st_size >= self._size_bytes
        if present and not self.full:
            return True
        if self._free_bytes() < 2 * self._size_bytes:
            self.full = True
            return False
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
            os.fsync(descriptor)
        except OSError:
            self.release()
            return False
        finally:
            os.close(descriptor)
        self.full = False
        return True

    def check(self) -> bool:
        """Look at the disk: give the room up before it is full, take it back when it can be had.

        Returns:
            Whether submissions may be taken.
        """
        if self.full:
            return self.prepare()
        if self._size_bytes and self._free_bytes() < self._size_bytes // 4:
            self.release()
        return not self.full

    def release(self) -> None:
        """Give the room up: the disk is full."""
        self.full = True
        if self._path is not None:
            self._path.unlink(missing_ok=True)
