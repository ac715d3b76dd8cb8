"""Why it exists: most programs write no time into their lines; control notes when each log had which size instead."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MARKS_PER_FILE_MAX = 3_600
FILES_MAX = 512


class Mark(NamedTuple):
    """A log was seen at this size."""

    size: int
    wall_ms: int


class LogClock:
    """Remembers sizes of logs over time, in memory, bounded. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Watch ``*.log`` in a folder."""
        self._folder = folder
        self._marks: dict[str, deque[Mark]] = {}
        self._lock = threading.Lock()

    def tick(self, wall_ms: int) -> None:
        """Look at all logs once."""
        try:
            entries = [entry for entry in os.scandir(self._folder) if entry.name.endswith(".log")]
        except OSError:
            return
        for entry in entries[:FILES_MAX]:
            try:
                size = entry.stat().st_size
            except OSError:
                continue
            with self._lock:
                self._note(entry.name, size, wall_ms)

    def _note(self, name: str, size: int, wall_ms: int) -> None:
        marks = self._marks.get(name)
        if marks is None:
            if len(self._marks) < FILES_MAX * 2:
                self._marks[name] = deque([Mark(size, wall_ms)], MARKS_PER_FILE_MAX)
            return
        if size < marks[-1].size:  # rotated: the old part is now <name>.1, and ends where it ended
            self._marks[f"{name}.1"] = marks
            self._marks[name] = deque([Mark(0, marks[-1].wall_ms), Mark(size, wall_ms)], MARKS_PER_FILE_MAX)
        elif size > marks[-1].size:
            marks.append(Mark(size, wall_ms))

    def times(self, path: Path, size: int, modified_ms: int) -> Times:
        """Get what is known of one log.

        Args:
            path: of the log.
            size: of the file now.
            modified_ms: its own time.
        """
        with self._lock:
            marks = list(self._marks.get(path.name, ()))
        shift = marks[-1].size - size if marks and path.name.endswith(".1") else 0
        return Times(marks, shift, modified_ms)


class Times:
    """Times of the lines of one log."""

    def __init__(self, marks: list[Mark], shift: int, modified_ms: int) -> None:
        """Use ``LogClock.times``."""
        self._sizes = [mark.size for mark in marks]
        self._walls = [mark.wall_ms for mark in marks]
        self._shift, self._modified_ms = shift, modified_ms

    def at(self, offset: int) -> tuple[int, bool]:
        """When the line at this offset was written, and whether that is good to two seconds (else: not later)."""
        index = bisect_right(self._sizes, offset + self._shift)
        if index < len(self._walls):
            return self._walls[index], index > 0
        return self._modified_ms, bool(self._walls)
