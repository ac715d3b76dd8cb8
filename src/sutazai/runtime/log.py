"""Why it exists: an agent's log is JSON lines on its standard output, so that others can search it without guessing.

A line is ``{"at_wall_ms", "level", "text", …}`` and is written with one system call, so that lines of the instances
that share a file do not mix.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from sutazai.limits import LINE_BYTES_MAX

_STDOUT = 1
_TEXT_CHARACTERS_MAX = LINE_BYTES_MAX // 16


class Log:
    """Writes lines that carry some fixed fields.

    Args:
        fields: in every line.
        descriptor: where to; standard output.
    """

    def __init__(self, fields: dict[str, Any] | None = None, descriptor: int = _STDOUT) -> None:
        self._fields = fields or {}
        self._descriptor = descriptor

    def bind(self, **fields: Any) -> Log:
        """Make a log with more fixed fields."""
        return Log({**self._fields, **fields}, self._descriptor)

    def debug(self, text: str, **fields: Any) -> None:
        """Write what helps to find a mistake."""
        self._write("debug", text, fields)

    def info(self, text: str, **fields: Any) -> None:
        """Write what happened."""
        self._write("info", text, fields)

    def warning(self, text: str, **fields: Any) -> None:
        """Write what is not as it should be, while the work goes on."""
        self._write("warning", text, fields)

    def error(self, text: str, **fields: Any) -> None:
        """Write what failed."""
        self._write("error", text, fields)

    def _write(self, level: str, text: str, fields: dict[str, Any]) -> None:
        line = {"at_wall_ms": time.time_ns() // 1_000_000, "level": level, "text": str(text)[:_TEXT_CHARACTERS_MAX]}
        data = json.dumps({**line, **self._fields, **fields}, default=str).encode(errors="backslashreplace")
        if len(data) >= LINE_BYTES_MAX:
            data = json.dumps({**line, **self._fields, "cut": True}, default=str).encode()[: LINE_BYTES_MAX - 1]
        try:
            os.write(self._descriptor, data + b"\n")
        except OSError:
            return  # a full disk or a closed log must not end the work
