"""Why it exists: what agents tell each other about the fleet stays traceable, because all use the same two forms.

A ``Measure`` is a number with its source; a ``Finding`` is a sentence whose numbers are measures. Workers pre-load this
module, so that its models cost an instance nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Measure(BaseModel):
    """A number (or a quotation) that can be traced: value, unit, source.

    Units: ``ratio`` is 0 to 1, ``wall_ms`` a point in time (milliseconds since 1970 UTC), ``text`` a quotation.
    """

    value: float | int | str
    unit: Literal["bytes", "bytes/s", "s", "ratio", "count", "wall_ms", "text"]
    source: str = Field(min_length=1, max_length=400)


class Finding(BaseModel):
    """One statement: a sentence whose ``{places}`` are measures; it holds no other number."""

    section: Literal["unhealthy", "cause", "impact", "forecast", "timeline", "action", "missing"]
    subject: str = Field(default="", max_length=200)
    text: str = Field(min_length=1, max_length=1000)
    measures: dict[str, Measure] = Field(default_factory=dict)
