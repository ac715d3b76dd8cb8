"""Why it exists: half a gigabyte takes minutes, and whoever waits wants to see that it moves.

On a terminal it is a bar; elsewhere a plain line every few seconds, so that a log stays readable.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from sutazai.units import MIB

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 3.0


class Reporter(Protocol):
    """Whom a fetch tells how far it is."""

    def say(self, text: str) -> None:
        """Tell one line."""
        ...

    def at(self, done_bytes: int) -> None:
        """Tell how many bytes of the model are on the disk."""
        ...

    def close(self) -> None:
        """End the bar."""
        ...


class Silent:
    """Tells nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def at(self, done_bytes: int) -> None:
        """Drop the number."""

    def close(self) -> None:
        """Nothing to end."""


class Lines:
    """Plain lines for logs and pipes."""

    def __init__(self, name: str, total_bytes: int, stream: TextIO) -> None:
        """Begin to count now."""
        self._name, self._total, self._stream = name, total_bytes, stream
        self._last_s = self._start_s = time.monotonic()
        self._start_bytes: int | None = None

    def say(self, text: str) -> None:
        """Print the line."""
        print(text, file=self._stream, flush=True)

    def at(self, done_bytes: int) -> None:
        """Print a line when the last one is old enough, or all is there."""
        now_s = time.monotonic()
        if self._start_bytes is None:
            self._start_bytes, self._start_s = done_bytes, now_s
        if now_s - self._last_s < LINE_EVERY_S and done_bytes < self._total:
            return
        self._last_s = now_s
        rate = (done_bytes - self._start_bytes) / max(now_s - self._start_s, 1e-3) / MIB
        share = done_bytes / self._total
        self.say(f"{self._name}: {done_bytes / MIB:.0f} of {self._total / MIB:.0f} MB ({share:.0%}), {rate:.1f} MB/s")

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A bar with rate and time left, for a terminal."""

    def __init__(self, name: str, total_bytes: int, stream: TextIO) -> None:
        """Draw an empty bar."""
        from rich import progress as kit
        from rich.console import Console

        self._progress: Progress = kit.Progress(
            kit.TextColumn("{task.description}"),
            kit.BarColumn(),
            kit.DownloadColumn(binary_units=True),
            kit.TransferSpeedColumn(),
            kit.TimeRemainingColumn(),
            console=Console(file=stream),
        )
        self._task: TaskID = self._progress.add_task(name, total=total_bytes)
        self._progress.start()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False)

    def at(self, done_bytes: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done_bytes)

    def close(self) -> None:
        """Leave the bar as it is and give the terminal back."""
        self._progress.stop()


def reporter(name: str, total_bytes: int, stream: TextIO | None = None) -> Reporter:
    """Choose bar or lines by where the output goes (standard error unless told otherwise)."""
    stream = stream or sys.stderr
    return Bar(name, total_bytes, stream) if stream.isatty() else Lines(name, total_bytes, stream)
