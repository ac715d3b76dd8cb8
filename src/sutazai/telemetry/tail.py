"""Why it exists: the newest lines of a large file are asked for all the time, and must not cost reading all of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sutazai.limits import LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 64 * 1024
#: More rotated files than this are not looked for.
ROTATED_FILES_MAX = 16


def rotated(path: Path) -> list[Path]:
    """A file and what it was rotated to (``<name>.1``, ``<name>.2`` …), the newest first; only those that exist."""
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, ROTATED_FILES_MAX))]
    return [name for name in names if name.exists()]


def lines_backwards(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a file from its end: ``(byte offset of the line, line without its end)``.

    Empty lines are left out. Of a line longer than ``LINE_BYTES_MAX`` only its beginning is given. A file that goes
    away or shrinks meanwhile just ends the iteration.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        yield from _backwards(descriptor)
    finally:
        os.close(descriptor)


def _backwards(descriptor: int) -> Iterator[tuple[int, bytes]]:
    position = os.fstat(descriptor).st_size
    rest = b""  # the beginning of what was read, not yet known to begin a line
    while position > 0:
        size = min(CHUNK_BYTES, position)
        position -= size
        chunk = os.pread(descriptor, size, position)
        if len(chunk) < size:
            return
        parts = (chunk + rest).split(b"\n")
        end = position + len(chunk) + len(rest)
        for part in reversed(parts[1:]):
            start = end - len(part)
            if part:
                yield start, part[:LINE_BYTES_MAX]
            end = start - 1
        rest = parts[0][:LINE_BYTES_MAX]
    if rest:
        yield 0, rest
