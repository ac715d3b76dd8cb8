"""Why it exists: what a process prints is kept, and can never fill the disk.

A child's stdout and stderr are its log file, opened ``O_APPEND``: no pipe, so the child never blocks and its log goes
on while ``sutazaid`` is dead. A file over its size is rotated by copying its tail and truncating it in place (the
child keeps its descriptor). The faster a log grows, the sooner it is looked at again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.limits import LOG_BYTES_MAX_DEFAULT, LOG_FILES_KEPT, TICK_MS
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.supervisor.loop import Loop

CHECK_MS_MIN = 20
COPY_BYTES = 1 << 20
#: A log that grew by this share of its size limit since the last look is looked at sooner.
SWIFT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class LogLimit:
    """How much of a log is kept.

    Attributes:
        bytes_max: of one file.
        files_kept: rotated ones beside it.
    """

    bytes_max: int = LOG_BYTES_MAX_DEFAULT
    files_kept: int = LOG_FILES_KEPT


class LogKeeper:
    """Opens log files and keeps all of a folder under their limits."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._loop = loop
        self._folder = folder
        self._limits: dict[str, LogLimit] = {}
        self._sizes: dict[str, int] = {}
        self._check_ms = TICK_MS
        self.rotations = 0

    def open(self, process: str) -> int:
        """Open a process' log for appending; the caller closes the descriptor.

        Raises:
            OSError: the disk is full or the folder is gone.
        """
        return os.open(self._folder / f"{process}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def limit(self, process: str, limit: LogLimit) -> None:
        """Say how much is kept of a process' log; others have the default."""
        self._limits[f"{process}.log"] = limit

    def start(self) -> None:
        """Look again and again, from now on."""
        swift = self.check()
        self._check_ms = max(CHECK_MS_MIN, self._check_ms // 4) if swift else min(TICK_MS, self._check_ms * 2)
        self._loop.after(self._check_ms, self.start)

    def check(self) -> bool:
        """Rotate what is too large; returns whether any log grows swiftly."""
        swift = False
        try:
            entries = list(os.scandir(self._folder))
        except OSError:
            return False
        for entry in entries:
            if not entry.name.endswith(".log") or not entry.is_file(follow_symlinks=False):
                continue
            limit = self._limits.get(entry.name, LogLimit())
            size = entry.stat(follow_symlinks=False).st_size
            swift = swift or size - self._sizes.get(entry.name, size) > SWIFT_SHARE * limit.bytes_max
            if size > limit.bytes_max:
                self._rotate(entry.name, size, limit)
                size = 0
            self._sizes[entry.name] = size
        return swift

    def _rotate(self, name: str, size: int, limit: LogLimit) -> None:
        path = self._folder / name
        try:
            for number in range(limit.files_kept, 1, -1):
                older, newer = self._folder / f"{name}.{number}", self._folder / f"{name}.{number - 1}"
                if newer.exists():
                    newer.replace(older)
            if limit.files_kept > 0:
                _copy_tail(path, self._folder / f"{name}.1", size, limit.bytes_max)
        except OSError as error:
            say(f"cannot keep the old part of {name}: {error.strerror}")
        os.truncate(path, 0)
        self.rotations += 1


def _copy_tail(source: Path, target: Path, size: int, bytes_max: int) -> None:
    """Copy the last ``bytes_max`` bytes of what stood in ``source`` when it was measured, inside the kernel."""
    temporary = target.with_suffix(".new")
    try:
        with source.open("rb", buffering=0) as reader, temporary.open("wb", buffering=0) as writer:
            offset = max(0, size - bytes_max)
            while offset < size:
                sent = os.sendfile(writer.fileno(), reader.fileno(), offset, min(COPY_BYTES, size - offset))
                if sent == 0:
                    break
                offset += sent
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
