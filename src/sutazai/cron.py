"""Why it exists: a schedule is read once, by a library, and asked two things: what comes next, and what came last.

Times are milliseconds of the wall clock (UTC); the time zone decides which of them an expression means.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


class Cron:
    """A cron expression in a time zone.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), or six with the seconds first.
        timezone: a name of the IANA database.

    Raises:
        ValueError: the expression or the time zone makes no sense, or no time ever fits; the message says which.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._expression, self._zone = expression, _zone(timezone)
        try:
            CronSim(expression, datetime.now(UTC))
        except (CronSimError, ValueError, AssertionError) as error:
            raise ValueError(f"{expression!r} is no cron expression: {str(error) or 'bad field'}") from error
        if not self.next_after(0):
            raise ValueError(f"{expression!r} fits no time at all")

    def next_after(self, wall_ms: int) -> int:
        """The first time behind ``wall_ms``; 0 when there is none within fifty years."""
        found = next(CronSim(self._expression, self._at(wall_ms)), None)
        return 0 if found is None else _ms(found)

    def newest(self, after_ms: int, until_ms: int) -> int:
        """The last time behind ``after_ms`` and not behind ``until_ms``; 0 when there is none."""
        first = self.next_after(after_ms)
        if not first or first > until_ms:
            return 0
        second = self.next_after(first)
        if not second or second > until_ms:
            return first
        backwards = CronSim(self._expression, self._at(until_ms + 1_000), reverse=True)
        return next((at_ms for at_ms in map(_ms, backwards) if at_ms <= until_ms), first)

    def _at(self, wall_ms: int) -> datetime:
        return datetime.fromtimestamp(wall_ms // 1_000, self._zone)


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # needs no database of time zones
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone that this machine knows") from error


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1_000
