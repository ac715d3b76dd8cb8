"""Why it exists: agents reason about the last two hours, so these must survive a restart and never fill the disk.

A ring of one row a second on disk (``ring_file``), with a bounded number of series. When all columns are taken, the
ring doubles its file up to a bound; then the series that has been silent longest gives its column; then the newcomer
is not kept and ``dropped`` counts it. Losing power can cost the rows that were not yet on disk, never the file.

Safe to use from several threads of one process; a second process is refused.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from sutazai.telemetry.reduce import Buckets, Points, Reduce
from sutazai.telemetry.ring_file import SERIES_BYTES_MAX, Geometry, Owner, RingFile, Series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["SERIES_BYTES_MAX", "Query", "Ring", "RingStatistics", "Series"]

ROWS_DEFAULT = 7_200
COLUMNS_FIRST = 256
COLUMNS_MAX_DEFAULT = 2_048


@dataclass(frozen=True, slots=True)
class Query:
    """What to read.

    Attributes:
        name: of the metric.
        labels: wanted values by label; a label that is not named takes any value.
        since_ms: first wall time, inclusive.
        until_ms: last wall time, inclusive; 0 is no end.
        step_ms: width of a bucket; 0 gives raw samples.
        reduce: what a bucket shows.
    """

    name: str
    labels: Mapping[str, Collection[str]]
    since_ms: int = 0
    until_ms: int = 0
    step_ms: int = 0
    reduce: Reduce = "mean"


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """State of a ring.

    Attributes:
        rows: rows that hold a sample.
        rows_max: rows that fit.
        series: columns with an owner.
        columns: columns that fit now.
        dropped: values that found no column since it was opened.
        file_bytes: size on disk.
    """

    rows: int
    rows_max: int
    series: int
    columns: int
    dropped: int
    file_bytes: int


class Ring:
    """The metric ring. ``open`` it, ``append`` once a second, ``query`` at any time, ``close`` it."""

    def __init__(self, path: Path, file: RingFile, columns_max: int) -> None:
        """Use ``open``."""
        self._path, self._file, self._columns_max = path, file, columns_max
        self._lock = threading.Lock()
        self._dropped = 0
        self._load()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        rows: int = ROWS_DEFAULT,
        columns: int = COLUMNS_FIRST,
        columns_max: int = COLUMNS_MAX_DEFAULT,
    ) -> Ring:
        """Open the ring, or make one; a file that is no ring is put aside as ``<name>.damaged``.

        An existing ring keeps its own number of rows.

        Raises:
            OSError: the disk is full or the folder cannot be written.
            UnavailableError: another process has it open.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = RingFile.open(path)
            if file is None:
                path.replace(path.with_suffix(".damaged"))
        except FileNotFoundError:
            file = None
        if file is None:
            file = RingFile.create(path, Geometry(rows, columns))
            file.publish(path)
        return cls(path, file, columns_max)

    def _load(self) -> None:
        self._owners = self._file.read_owners()
        self._columns = {owner.series: column for column, owner in self._owners.items()}
        self._numbers = array("q", [-1]) * self._file.geometry.rows  # row number in each slot
        self._walls = array("q", [0]) * self._file.geometry.rows
        newest = -1
        for number, wall_ms, _ in self._file.scan():
            slot = number % self._file.geometry.rows
            self._numbers[slot], self._walls[slot] = number, wall_ms
            newest = max(newest, number)
        # After a power cut the table may be newer than the rows: never reuse a number that a column counts from.
        self._next = max([newest + 1, *(owner.first for owner in self._owners.values())])
        self._last_use = dict.fromkeys(self._owners, newest)
        self._blank = array("d", [nan]) * self._file.geometry.columns

    def close(self) -> None:
        """Put everything on disk and give the lock back."""
        with self._lock:
            self._file.sync()
            self._file.close()

    def append(self, wall_ms: int, values: Mapping[Series, float]) -> None:
        """Write one row.

        Args:
            wall_ms: time of the sample, above 0.
            values: one value a series; a series without one has a gap.

        Raises:
            OSError: the disk refuses the write; the row is lost, the ring is whole.
        """
        with self._lock:
            new = [series for series in values if series not in self._columns]
            if new:
                self._place(new, values)
            row = array("d", self._blank)
            number = self._next
            columns = self._columns
            for series, value in values.items():
                column = columns.get(series)
                if column is None:
                    self._dropped += 1
                    continue
                row[column] = value
                self._last_use[column] = number
            self._file.write_row(number, wall_ms, row)
            slot = number % self._file.geometry.rows
            self._numbers[slot], self._walls[slot] = number, wall_ms
            self._next = number + 1

    def _place(self, new: list[Series], present: Mapping[Series, float]) -> None:
        """Give columns to new series; the table is on disk before a row uses it."""
        columns = self._file.geometry.columns
        while len(self._owners) + len(new) > columns and columns < self._columns_max:
            columns = min(columns * 2, self._columns_max)
        if columns > self._file.geometry.columns:
            self._grow(columns)
        free = [column for column in range(columns) if column not in self._owners]
        silent = [column for column, owner in self._owners.items() if owner.series not in present]
        silent.sort(key=lambda column: self._last_use[column], reverse=True)
        for series in new:
            column = free.pop(0) if free else silent.pop() if silent else -1
            if column < 0:
                break
            owner = Owner(series, self._next)
            try:
                self._file.write_owner(column, owner)
            except ValueError:
                free.append(column)
                continue
            if (before := self._owners.get(column)) is not None:
                del self._columns[before.series]
            self._owners[column] = owner
            self._columns[series] = column
        self._file.sync()

    def _grow(self, columns: int) -> None:
        """Copy everything into a wider file; a crash in between leaves the old one."""
        wider = RingFile.create(self._path, Geometry(self._file.geometry.rows, columns))
        for column, owner in self._owners.items():
            wider.write_owner(column, owner)
        padding = array("d", [nan]) * (columns - self._file.geometry.columns)
        for number, wall_ms, values in self._file.scan():
            row = array("d", values.tobytes())
            row.extend(padding)
            wider.write_row(number, wall_ms, row)
        wider.publish(self._path)
        self._file.close()
        self._file = wider
        self._blank = array("d", [nan]) * columns

    def newest_wall_ms(self) -> int:
        """Time of the newest row, 0 when there is none."""
        with self._lock:
            return self._walls[(self._next - 1) % self._file.geometry.rows] if self._next else 0

    def series(self) -> list[Series]:
        """All series that have a column."""
        with self._lock:
            return sorted(self._columns)

    def count(self, query: Query) -> tuple[int, int]:
        """How many series match, and how many rows lie in the window: the size of an answer before it is made."""
        with self._lock:
            return len(self._match(query)), len(self._window(query))

    def query(self, query: Query) -> list[tuple[Series, Points]]:
        """Read the matching series, each with its points in order of time; those without a point are left out."""
        return list(self.stream(query))

    def stream(self, query: Query) -> Iterator[tuple[Series, Points]]:
        """Read as ``query`` does, but make the points of one series at a time, which costs less memory."""
        with self._lock:
            matching = self._match(query)
            numbers = self._window(query)
            rows = self._file.geometry.rows
            walls = array("q", (self._walls[number % rows] for number in numbers))
            columns = self._file.read_columns(numbers, [column for column, _ in matching])
        buckets = Buckets(walls, query.step_ms)
        for (_, owner), values in zip(matching, columns, strict=True):
            foreign = bisect_left(numbers, owner.first)  # rows from before the column was this series'
            values[:foreign] = array("d", [nan]) * foreign
            if points := buckets.points(values, query.reduce):
                yield owner.series, points

    def _match(self, query: Query) -> list[tuple[int, Owner]]:
        found = []
        for column, owner in self._owners.items():
            if owner.series.name != query.name:
                continue
            labels = dict(owner.series.labels)
            if all(labels.get(label) in wanted for label, wanted in query.labels.items()):
                found.append((column, owner))
        return sorted(found, key=lambda item: item[1].series)

    def _window(self, query: Query) -> list[int]:
        """Numbers of the rows in the window, growing."""
        until = query.until_ms or 2**62
        pairs = zip(self._numbers, self._walls, strict=True)
        return sorted(number for number, wall in pairs if number >= 0 and query.since_ms <= wall <= until)

    def statistics(self) -> RingStatistics:
        """How full it is."""
        with self._lock:
            geometry = self._file.geometry
            rows = sum(1 for number in self._numbers if number >= 0)
            return RingStatistics(
                rows, geometry.rows, len(self._owners), geometry.columns, self._dropped, geometry.file_bytes
            )
