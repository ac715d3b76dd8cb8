"""Why it exists: a test turns time by hand, so that no unit test sleeps."""

from __future__ import annotations


class ManualClock:
    """A ``Clock`` that stands still until it is moved.

    Args:
        monotonic_ms: where the monotonic clock starts.
        wall_ms: where the wall clock starts.
    """

    def __init__(self, monotonic_ms: int = 1_000, wall_ms: int = 1_700_000_000_000) -> None:
        self._monotonic_ms, self._wall_ms = monotonic_ms, wall_ms

    def monotonic_ms(self) -> int:
        """Milliseconds that never run backwards."""
        return self._monotonic_ms

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return self._wall_ms

    def advance(self, milliseconds: int) -> None:
        """Let time pass on both clocks.

        Raises:
            ValueError: time does not run backwards.
        """
        if milliseconds < 0:
            raise ValueError(f"time cannot pass by {milliseconds} ms")
        self._monotonic_ms += milliseconds
        self._wall_ms += milliseconds

    def jump_wall(self, milliseconds: int) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self._wall_ms += milliseconds
