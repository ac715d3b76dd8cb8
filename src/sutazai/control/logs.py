"""Why it exists: the newest lines of all logs, JSON or plain, in one order of time, without reading whole files."""

from __future__ import annotations

import heapq
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sutazai.errors import NotFoundError
from sutazai.telemetry.tail import lines_backwards, rotated
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from sutazai.control.logclock import LogClock

LEVELS = ("debug", "info", "warning", "error")
#: More than this is not read for one question; the answer then says ``truncated``.
SCAN_BYTES_MAX = 32 * MIB
#: Lines of one log may be out of order by so much.
DISORDER_MS = 10_000
TEXT_CHARACTERS_MAX = 8_000

_STAMP = re.compile(
    rb"^[\[(]?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)\s?(Z|UTC|[+-]\d\d:?\d\d)?", re.IGNORECASE
)
_WORD = re.compile(
    rb"\b(?:(critical|fatal|error|panic|err)|(warn(?:ing)?)|(info|notice)|(debug|trace))\b", re.IGNORECASE
)
_RAISED = re.compile(rb"^(?:Traceback \(most recent call last\)|[A-Za-z0-9_.]*(?:Error|Exception)\b)")
_LEVEL_OF = {"critical": "error", "fatal": "error", "warn": "warning", "notice": "info", "trace": "debug"}
_LEVEL_WORDS_BYTES = 120


@dataclass(frozen=True, slots=True)
class Line:
    """One line, as ``/v1/logs`` gives it."""

    at_wall_ms: int
    time: str
    process: str
    level: str
    text: str
    fields: dict[str, Any]
    offset: int

    def to_json(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "at_wall_ms": self.at_wall_ms,
            "time": self.time,
            "process": self.process,
            "level": self.level,
            "text": self.text,
            "fields": self.fields,
            "source": f"log:{self.process}@{self.at_wall_ms}+{self.offset}",
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Attributes:
        processes: whose logs, empty for all.
        since_ms: first wall time.
        level: least level.
        contains: text in the line, case does not matter.
        limit: newest lines to give.
    """

    processes: Collection[str] = ()
    since_ms: int = 0
    level: str = "debug"
    contains: str = ""
    limit: int = 500


class LogReader:
    """Reads a fleet's logs."""

    def __init__(self, folder: Path, clock: LogClock) -> None:
        """Remember where they are."""
        self._folder, self._clock = folder, clock

    def names(self) -> list[str]:
        """Processes that have a log."""
        return sorted(path.stem for path in self._folder.glob("*.log")) if self._folder.is_dir() else []

    def read(self, wanted: Wanted) -> tuple[list[Line], bool]:
        """Find lines.

        Returns:
            The lines, oldest first, and whether older matching ones may exist.

        Raises:
            NotFoundError: a named process has no log.
        """
        names = self.names()
        if unknown := sorted(set(wanted.processes) - set(names)):
            raise NotFoundError(f"there is no log of {', '.join(unknown)}; there are: {', '.join(names) or 'none'}")
        budget = _Budget(SCAN_BYTES_MAX)
        streams = [self._newest_first(name, wanted, budget) for name in (wanted.processes or names)]
        newest = heapq.merge(*streams, key=lambda line: -line.at_wall_ms)
        found: list[Line] = []
        for line in newest:
            if len(found) >= wanted.limit:
                return found[::-1], True
            found.append(line)
        return found[::-1], budget.exhausted

    def _newest_first(self, name: str, wanted: Wanted, budget: _Budget) -> Iterator[Line]:
        needle = wanted.contains.lower()
        raw_needle = needle.encode() if needle.isascii() and not set(needle) & set('"\\/') else b""
        least = LEVELS.index(wanted.level)
        for path in rotated(self._folder / f"{name}.log"):
            try:
                facts = path.stat()
            except OSError:
                continue
            modified_ms = facts.st_mtime_ns // 1_000_000
            if modified_ms < wanted.since_ms - DISORDER_MS:
                return
            times = self._clock.times(path, facts.st_size, modified_ms)
            for offset, raw in lines_backwards(path):
                if not budget.take(len(raw)):
                    return
                line = parse(name, raw, offset, times.at(offset))
                if line.at_wall_ms < wanted.since_ms - DISORDER_MS:
                    return
                if line.at_wall_ms < wanted.since_ms or LEVELS.index(line.level) < least:
                    continue
                if raw_needle and raw_needle not in raw.lower():
                    continue
                if needle and needle not in f"{line.text} {json.dumps(line.fields, ensure_ascii=False)}".lower():
                    continue
                yield line


class _Budget:
    def __init__(self, left: int) -> None:
        self._left = left
        self.exhausted = False

    def take(self, size: int) -> bool:
        self._left -= size
        self.exhausted = self._left < 0
        return not self.exhausted


def parse(process: str, raw: bytes, offset: int, observed: tuple[int, bool]) -> Line:
    """Understand one line.

    Args:
        process: whose.
        raw: the line.
        offset: where it begins.
        observed: time and whether it is good, for a line that tells none itself.
    """
    if raw.startswith(b"{") and (line := _structured(process, raw, offset, observed)) is not None:
        return line
    at, quality = observed[0], "observed" if observed[1] else "file"
    if (stamp := _STAMP.match(raw)) is not None and (written := _wall_ms(stamp)) is not None:
        at, quality = written, "line"
    text = raw.decode("utf-8", "replace")[:TEXT_CHARACTERS_MAX].rstrip("\r")
    return Line(at, quality, process, _guess_level(raw), text, {}, offset)


def _structured(process: str, raw: bytes, offset: int, observed: tuple[int, bool]) -> Line | None:
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    at = entry.pop("at_wall_ms", None)
    quality = "line"
    if not isinstance(at, (int, float)) or isinstance(at, bool):
        at, quality = observed[0], "observed" if observed[1] else "file"
    level = str(entry.pop("level", "info")).lower()
    level = _LEVEL_OF.get(level, level)
    text = entry.pop("text", None)
    if text is None:
        text = entry.pop("message", None) or entry.pop("msg", "")
    words = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return Line(
        int(at), quality, process, level if level in LEVELS else "info", words[:TEXT_CHARACTERS_MAX], entry, offset
    )


def _wall_ms(stamp: re.Match[bytes]) -> int | None:
    zone = (stamp[2] or b"").decode().upper()
    text = stamp[1].decode().replace(",", ".")
    try:
        if zone in {"Z", "UTC"}:
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif zone:
            moment = datetime.fromisoformat(text + (zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"))
        else:  # local time, as programs write it without saying so
            moment = datetime.fromtimestamp(time.mktime(datetime.fromisoformat(text).timetuple()), UTC)
        return int(moment.timestamp() * 1_000)
    except (ValueError, OverflowError):
        return None


def _guess_level(raw: bytes) -> str:
    if _RAISED.match(raw):
        return "error"
    word = _WORD.search(raw[:_LEVEL_WORDS_BYTES])
    if word is None:
        return "info"
    return next(
        level for level, group in zip(("error", "warning", "info", "debug"), word.groups(), strict=True) if group
    )
