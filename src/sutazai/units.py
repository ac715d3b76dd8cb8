"""Why it exists: a quantity without its unit is a mistake waiting: people write ``512MB``, ``30s``, ``50%``.

``MB`` means 2**20 bytes, as in Docker's and Compose's ``memory`` settings. Parsing refuses a bare number.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_BYTES = {"B": 1, "KB": KIB, "MB": MIB, "GB": GIB, "TB": 1024**4}
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERIODS_US = {"/s": 1_000_000, "/min": 60_000_000, "/h": 3_600_000_000, "/d": 86_400_000_000}
_NUMBER = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,6})?)(?P<unit>/?[A-Za-z%]*)", re.ASCII)


def _split(text: str, kind: str, example: str, units: tuple[str, ...]) -> tuple[Decimal, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is not a {kind}: write a number and its unit, like {example}"
        raise ValueError(msg)
    if not match["unit"]:
        msg = f"{text!r} has no unit: write {example}; the units are {', '.join(units)}"
        raise ValueError(msg)
    if match["unit"] not in units:
        msg = f"{text!r} has the unknown unit {match['unit']!r}: the units of a {kind} are {', '.join(units)}"
        raise ValueError(msg)
    return Decimal(match["number"]), match["unit"]


def parse_bytes(text: str) -> int:
    """Read an amount of memory or disk, like ``512MB``, ``1.38GB``.

    Returns:
        Bytes, rounded down; ``MB`` is 2**20 bytes.

    Raises:
        ValueError: no unit, an unknown unit, or not a number; the message says what to write.
    """
    number, unit = _split(text, "size", "512MB", tuple(_BYTES))
    return int(number * _BYTES[unit])


def parse_duration_ms(text: str) -> int:
    """Read a duration, like ``250ms``, ``30s``, ``5m``.

    Returns:
        Milliseconds, rounded down.

    Raises:
        ValueError: no unit, an unknown unit, or not a number; the message says what to write.
    """
    number, unit = _split(text, "duration", "30s", tuple(_MILLISECONDS))
    return int(number * _MILLISECONDS[unit])


def parse_rate_us(text: str) -> int:
    """Read a rate, like ``10/s``, ``100/min``.

    Returns:
        Microseconds from one to the next, rounded up, so that the rate is never exceeded; 0 for ``0/s``.

    Raises:
        ValueError: no period, an unknown one, or not a number.
    """
    number, unit = _split(text, "rate", "10/s", tuple(_PERIODS_US))
    return math.ceil(_PERIODS_US[unit] / number) if number > 0 else 0


def parse_percent(text: str) -> float:
    """Read a share, like ``50%``.

    Returns:
        A fraction, 0.5 for ``50%``; may be above 1 (``185%`` of a core).

    Raises:
        ValueError: no per cent sign, or not a number.
    """
    number, _ = _split(text, "share", "50%", ("%",))
    return float(number / 100)


def parse_cores(text: str) -> float:
    """Read an amount of CPU, like ``2c`` or ``0.5c`` (cores).

    Returns:
        Cores.

    Raises:
        ValueError: no unit, or not a number.
    """
    number, _ = _split(text, "number of cores", "2c", ("c",))
    return float(number)


def format_bytes(count: int) -> str:
    """Write bytes for a person: ``512 MB``, ``1.4 GB``; three significant digits at most."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < KIB:
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.3g} {unit}"  # noqa: PLR2004 three digits
        value /= KIB
    return f"{value:.3g} TB"


def format_duration_ms(milliseconds: float) -> str:
    """Write a duration for a person: ``7.2 ms``, ``1.4 s``, ``3 m 20 s``."""
    if milliseconds < 1_000:  # noqa: PLR2004 a second
        return f"{milliseconds:.3g} ms"
    if milliseconds < 60_000:  # noqa: PLR2004 a minute
        return f"{milliseconds / 1_000:.3g} s"
    minutes, rest = divmod(int(milliseconds) // 1_000, 60)
    if minutes < 60:  # noqa: PLR2004 an hour
        return f"{minutes} m {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m"
