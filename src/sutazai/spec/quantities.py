"""Why it exists: people write ``2g``, ``512Mi``, ``30 sec`` or just ``512``; the message says exactly what to write.

``sutazai.units`` parses what is right. This module only turns what is wrong into the most likely right spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from sutazai.units import parse_bytes, parse_cores, parse_duration_ms, parse_percent, parse_rate_us

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", int, float)

_NUMBER = re.compile(r"\s*([+-]?[0-9][0-9_]*(?:[.,][0-9]+)?)\s*(/?[A-Za-zµ%]*)\s*", re.ASCII)
_SIZES = {
    "b": "B", "byte": "B", "bytes": "B",
    "k": "KB", "kb": "KB", "ki": "KB", "kib": "KB",
    "m": "MB", "mb": "MB", "mi": "MB", "mib": "MB", "mbyte": "MB",
    "g": "GB", "gb": "GB", "gi": "GB", "gib": "GB", "gbyte": "GB",
    "t": "TB", "tb": "TB", "ti": "TB", "tib": "TB",
}  # fmt: skip
_DURATIONS = {
    "ms": "ms", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "h": "h", "hr": "h", "hour": "h", "hours": "h",
    "d": "d", "day": "d", "days": "d",
}  # fmt: skip
_CORES = {"c": "c", "core": "c", "cores": "c", "cpu": "c", "cpus": "c", "vcpu": "c"}


@dataclass(frozen=True, slots=True)
class Quantity(Generic[T]):
    """A kind of quantity: how it is read, and how it is called in messages.

    Attributes:
        noun: ``size``, ``duration`` …
        article: ``a`` or ``an`` in front of it.
        unit: written behind a bare number in the hint.
        example: what a right value looks like.
        parse: text to number; raises ``ValueError``.
        spellings: wrong and right units, lower case.
    """

    noun: str
    article: str
    unit: str
    example: str
    parse: Callable[[str], T]
    spellings: dict[str, str]


SIZE: Quantity[int] = Quantity("size", "a", "MB", "512MB", parse_bytes, _SIZES)
DURATION: Quantity[int] = Quantity("duration", "a", "s", "30s", parse_duration_ms, _DURATIONS)
CORES: Quantity[float] = Quantity("number of cores", "a", "c", "2c or 0.5c", parse_cores, _CORES)
RATE: Quantity[int] = Quantity(
    "rate", "a", "/s", "10/s or 100/min", parse_rate_us, {unit: unit for unit in ("/s", "/min", "/h", "/d")}
)
SHARE: Quantity[float] = Quantity("share", "a", "%", "50%", parse_percent, {"%": "%", "percent": "%", "pct": "%"})


def explain(quantity: Quantity[T], text: str) -> tuple[str, str]:
    """Say what is wrong with a text that ``quantity.parse`` refused.

    Returns:
        The problem and the hint.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return f"{text!r} is not {quantity.article} {quantity.noun}", f"write {quantity.example}"
    number, unit = match[1].replace("_", "").replace(",", ".").lstrip("+"), match[2]
    if number.startswith("-"):
        return f"{text} is negative", f"write {quantity.article} {quantity.noun} like {quantity.example}"
    if not unit:
        return f"{text} has no unit", f"write {number}{quantity.unit}{_guess(quantity, number)}"
    if quantity is CORES and unit == "%":
        return f"{text} is a share, not {quantity.article} {quantity.noun}", f"write {float(number) / 100:g}c"
    right = quantity.spellings.get(unit.lower())
    if right is None:
        units = ", ".join(dict.fromkeys(quantity.spellings.values()))
        return f"{text!r} has the unknown unit {unit!r}", f"the units of {quantity.article} {quantity.noun}: {units}"
    return f"{text!r} is not written as {quantity.article} {quantity.noun}", f"write {number}{right}"


def _guess(quantity: Quantity[T], number: str) -> str:
    """Name a second likely meaning: a small bare size is often gigabytes, a large one bytes."""
    value = float(number)
    if quantity.noun == "size":
        if value >= 2**20:
            return f", or {value / 2**20:.4g}MB if these were bytes"
        if value <= 64:  # noqa: PLR2004 nobody gives a process 64 MB by writing "16"
            return f" or {number}GB"
    if quantity.noun == "duration" and value >= 500:  # noqa: PLR2004 few mean 500 seconds
        return f" or {number}ms"
    return ""
