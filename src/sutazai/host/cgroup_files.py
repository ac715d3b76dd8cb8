"""Why it exists: a control file is not a normal file, and the drivers should not each remember how.

A write is one system call without ``O_CREAT`` (a missing control is an error, not a new file). Reads that happen every
tick keep their descriptor open and use ``pread``: 1 µs instead of 7 µs. Tests put a fake kernel below this class.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from sutazai.errors import HostError

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES_MAX = 65_536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", re.ASCII)
_GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENOTDIR)


class Files:
    """Reads and writes of control files, folders of groups; keeps descriptors of files that are read again."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, int]] = {}

    def read(self, folder: Path, name: str) -> str:
        """Read a control file once.

        Returns:
            Its text, stripped; empty when it does not exist or cannot be read.
        """
        try:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
        except OSError:
            return ""
        try:
            return _whole(descriptor)
        except OSError:
            return ""
        finally:
            os.close(descriptor)

    def read_kept(self, folder: str, name: str) -> str:
        """Read a control file that will be read again: its descriptor stays open until the folder is removed.

        Returns:
            Its text, not stripped; empty when it does not exist or its group is gone.
        """
        kept = self._kept.get(folder)
        descriptor = None if kept is None else kept.get(name)
        if descriptor is None:
            try:
                descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
            except OSError:
                return ""
            kept = self._kept.setdefault(folder, {})  # only now: who asks for what is gone must leave nothing behind
            kept[name] = descriptor
        try:
            return os.pread(descriptor, READ_BYTES_MAX, 0).decode("utf-8", "replace")
        except OSError:
            os.close(self._kept[folder].pop(name))
            return ""

    def forget(self, folder: str) -> None:
        """Close the descriptors kept for a folder."""
        for descriptor in self._kept.pop(folder, {}).values():
            os.close(descriptor)

    def write(self, folder: Path, name: str, text: str) -> None:
        """Write a control file by one system call.

        Raises:
            OSError: as the kernel says; ``ENOENT`` when this kernel has no such control.
        """
        descriptor = os.open(f"{folder}/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def make(self, folder: Path) -> bool:
        """Make one group folder.

        Returns:
            Whether it is new.

        Raises:
            OSError: as the kernel says; also when a control file has that name.
        """
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise
            return False
        return True

    def drop(self, folder: Path) -> bool:
        """Remove one group folder.

        Returns:
            Whether it is gone now; False while a process or a child group is in it.
        """
        self.forget(str(folder))
        try:
            folder.rmdir()
        except OSError as error:
            return error.errno in _GONE
        return True

    def folders(self, folder: Path) -> list[str]:
        """Names of the child groups, sorted; empty when the folder is gone."""
        try:
            with os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []

    def tree(self, folder: Path) -> list[Path]:
        """List a group and all groups below it, parents first; empty when it does not exist."""
        if not folder.is_dir():
            return []
        found = [folder]
        for group in found:
            found.extend(group / name for name in self.folders(group))
        return found

    def drop_tree(self, folder: Path) -> bool:
        """Remove a group and all groups below it, children first.

        Returns:
            Whether all are gone now.
        """
        gone = True
        for group in reversed(self.tree(folder)):
            gone = self.drop(group) and gone
        return gone

    def pids(self, folder: Path, *, recursive: bool = True) -> list[int]:
        """Processes in a group, and below it; empty when it is gone."""
        groups = self.tree(folder) if recursive else [folder]
        return [int(word) for group in groups for word in self.read(group, "cgroup.procs").split() if word.isdecimal()]


def _whole(descriptor: int) -> str:
    parts = []
    while part := os.read(descriptor, READ_BYTES_MAX):
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace").strip()


def number(text: str) -> int:
    """Read a number of a control file; ``max`` and garbage are 0."""
    word = text.strip()
    return int(word) if word.isdecimal() else 0


def table(text: str) -> dict[str, int]:
    """Read lines of ``key value``; others are left out."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def check_path(path: str) -> tuple[str, ...]:
    """Split ``pool/process`` and refuse what could leave the fleet's own tree.

    Returns:
        The names; empty for the fleet's root.

    Raises:
        HostError: a name is empty, too long, starts with a dot, or has other characters than letters, digits, ``._-``.
    """
    if not path:
        return ()
    names = tuple(path.split("/"))
    for name in names:
        if not _NAME.fullmatch(name):
            raise HostError(f"{path!r} is no name of a group: use letters, digits and ._- between slashes")
    return names


def refusal(error: OSError) -> str:
    """Say why the kernel refused a write, for a person."""
    if error.errno == errno.ENOENT:
        return "this kernel has no such control"
    return os.strerror(error.errno or errno.EIO)
