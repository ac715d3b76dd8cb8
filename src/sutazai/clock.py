"""Why it exists: time is an input, so that a test can turn it and no module waits by sleeping.

``Clock`` is the only source of time of the packages that take one; ``testing.ManualClock`` is its double.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never run backwards within one boot; only differences mean something."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; for people and for files, never for measuring a duration."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ms(self) -> int:
        """Milliseconds of ``CLOCK_MONOTONIC``."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds of ``CLOCK_REALTIME``."""
        return time.time_ns() // 1_000_000
