"""Why it exists: a number enters the report only through here, so that it cannot get in without its source."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from sutazai.agents.incident_timeline_writer import trace
from sutazai.agents.incident_timeline_writer.models import Source
from sutazai.units import KIB

if TYPE_CHECKING:
    from sutazai.runtime.evidence import Finding, Measure

_PLACE = re.compile(r"\{([a-z_]+)\}")
_SPAN = re.compile(r"`([^`]*)`")
_QUOTATION_CHARACTERS_MAX = 200
_MINUTE_S = 60
_HOUR_S = 3600
_LARGE = 100


class Ledger:
    """Gives each source a reference, each measure its written form, and remembers which source gave which number."""

    def __init__(self) -> None:
        self._references: dict[str, str] = {}
        self._values: dict[str, list[str]] = {}

    def cite(self, source: str) -> str:
        """The reference of a source, like ``[m3]``; the same source has one reference."""
        source = " ".join(source.replace("`", "'").split())
        if source not in self._references:
            self._references[source] = f"m{len(self._references) + 1}"
            self._values[self._references[source]] = []
        return f"[{self._references[source]}]"

    def write(self, measure: Measure) -> str:
        """Write a measure with its reference: ``1.66 MB/s [m3]``; a quotation stands in a code span."""
        reference = self.cite(measure.source)
        if measure.unit == "text":
            words = " ".join(str(measure.value).replace("`", "'").split())[:_QUOTATION_CHARACTERS_MAX]
            return f"`{words or '-'}` {reference}"
        written = formatted(measure)
        for number in trace.numbers(written):
            self._values[reference[1:-1]].append(number)
        return f"{written} {reference}"

    def sentence(self, finding: Finding) -> str:
        """Fill a finding's places.

        Raises:
            ValueError: a place has no measure, or the sentence holds a number of its own, also as a quotation.
        """
        sentence = " ".join(finding.text.split())
        bare = _PLACE.sub("·", sentence)
        loose = trace.numbers(bare) + [span for span in _SPAN.findall(bare) if trace.numbers(span) == [span.strip()]]
        if sentence.count("`") % 2:
            raise ValueError(f"a quotation does not end in: {finding.text}")
        if loose:
            raise ValueError(f"a number without a source ({', '.join(loose)}) in: {finding.text}")
        missing = [name for name in _PLACE.findall(sentence) if name not in finding.measures]
        if missing:
            raise ValueError(f"no measure for {', '.join(missing)} in: {finding.text}")
        return _PLACE.sub(lambda match: self.write(finding.measures[match.group(1)]), sentence)

    def sources(self) -> list[Source]:
        """All sources in the order of their references."""
        return [
            Source(id=reference, source=source, values=self._values[reference])
            for source, reference in self._references.items()
        ]

    def values(self) -> dict[str, list[str]]:
        """The written numbers of each reference."""
        return {reference: list(numbers) for reference, numbers in self._values.items()}

    def reference_of(self, number: str) -> str | None:
        """A reference that gave exactly this written number; none when no source did."""
        return next((reference for reference, numbers in self._values.items() if number in numbers), None)


def formatted(measure: Measure) -> str:
    """Write a measure's value for a person; three significant digits for sizes and durations."""
    if isinstance(measure.value, str):
        return measure.value
    value = float(measure.value)
    if measure.unit == "bytes":
        return _size(value)
    if measure.unit == "bytes/s":
        return f"{_size(value)}/s"
    if measure.unit == "s":
        return _duration(value)
    if measure.unit == "ratio":
        return f"{value * 100:.3g} %" if abs(value) < 1 else f"{value * 100:.5g} %"
    if measure.unit == "wall_ms":
        return moment(int(value))
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def moment(wall_ms: int) -> str:
    """Write a point in time, UTC, to the second."""
    return dt.datetime.fromtimestamp(wall_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _size(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < KIB or unit == "GB":
            whole = unit == "B" or abs(value) >= _LARGE
            return f"{value:.0f} {unit}" if whole else f"{value:.3g} {unit}"
        value /= KIB
    return f"{value:.3g} TB"


def _duration(value: float) -> str:
    if abs(value) < _MINUTE_S * 3:
        return f"{value:.3g} s"
    if abs(value) < _HOUR_S * 3:
        return f"{value / _MINUTE_S:.3g} m"
    return f"{value / _HOUR_S:.3g} h"
