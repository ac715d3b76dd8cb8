"""Why it exists: deadlines and delays must survive a restart of the broker and a wall clock that jumps.

The broker's clock counts on from its last stored reading: within one boot by the machine's monotonic clock, after a
boot by the wall clock, never backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.store.protocol import ClockReading

if TYPE_CHECKING:
    from sutazai.clock import Clock


class BrokerClock:
    """Time as the store knows it.

    Args:
        clock: of the machine.
        stored: the last stored reading; None starts at 1.
        boot: identifies this boot; empty when unknown.
    """

    def __init__(self, clock: Clock, stored: ClockReading | None, boot: str = "") -> None:
        self._clock, self._boot = clock, boot
        start = 1
        if stored is not None:
            if boot and stored.boot == boot:
                passed = clock.monotonic_ms() - stored.monotonic_ms
            else:
                passed = clock.wall_ms() - stored.wall_ms
            start = stored.broker_ms + max(0, passed)
        self._offset_ms = start - clock.monotonic_ms()
        self._monotonic_ms = clock.monotonic_ms

    def now_ms(self) -> int:
        """The broker's time."""
        return self._monotonic_ms() + self._offset_ms

    def wall_ms(self) -> int:
        """For people."""
        return self._clock.wall_ms()

    def reading(self) -> ClockReading:
        """What to store."""
        monotonic_ms = self._clock.monotonic_ms()
        return ClockReading(monotonic_ms + self._offset_ms, monotonic_ms, self._clock.wall_ms(), self._boot)
