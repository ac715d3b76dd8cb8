"""Why it exists: the bytes of the metric ring, apart from what is done with them.

One file: a header, a table that says which series owns which column, and a ring of rows. A row is one second: its
number, its time, and one 8-byte value a column (NaN: no value). All values of a second lie together, so a tick is one
small write, and a row that a power cut tore is found by its check sum and skipped.

The file is read and written by ``pread`` and ``pwrite``, not mapped: mapped pages would count as memory of control.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from sutazai.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAGIC = b"SUTAZAI-RING-1\0\0"
HEADER_BYTES = 4096
ENTRY_BYTES = 256
VALUE_BYTES = 8
#: Longest name and labels of a series as JSON, bytes.
SERIES_BYTES_MAX = ENTRY_BYTES - 14
COLUMNS_MAX = 4096
ROWS_MAX = 1_000_000
READ_BYTES = 512 * 1024

_GEOMETRY = struct.Struct("<16sIII")  # magic, rows, columns, crc
_ENTRY = struct.Struct("<IQH")  # crc, first row number, length of the JSON
_ROW = struct.Struct("<QQII")  # row number, wall time, columns, crc
ROW_HEADER_VALUES = _ROW.size // VALUE_BYTES


class Series(NamedTuple):
    """What one column holds: a metric's name and its labels, in the order of ``telemetry.names``."""

    name: str
    labels: tuple[tuple[str, str], ...]


class Owner(NamedTuple):
    """A column's series, and the number of the first row that is its own."""

    series: Series
    first: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size of a ring.

    Attributes:
        rows: how many seconds are kept.
        columns: how many series fit.
    """

    rows: int
    columns: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return _ROW.size + self.columns * VALUE_BYTES

    @property
    def rows_at(self) -> int:
        """Where the first row begins."""
        return HEADER_BYTES + self.columns * ENTRY_BYTES

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file; it never grows."""
        return self.rows_at + self.rows * self.row_bytes


class RingFile:
    """An open ring file; one process at a time holds its lock."""

    def __init__(self, descriptor: int, geometry: Geometry) -> None:
        """Take over a locked descriptor."""
        self._descriptor, self.geometry = descriptor, geometry

    @classmethod
    def create(cls, path: Path, geometry: Geometry) -> RingFile:
        """Make an empty file with all its disk space, replacing one of that name only when it is complete.

        Raises:
            OSError: no room, or not allowed.
            UnavailableError: another process holds it.
        """
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, temporary)
            os.ftruncate(descriptor, 0)
            os.posix_fallocate(descriptor, 0, geometry.file_bytes)
            head = _GEOMETRY.pack(MAGIC, geometry.rows, geometry.columns, 0)[:-4]
            os.pwrite(descriptor, head + struct.pack("<I", zlib.crc32(head)), 0)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return cls(descriptor, geometry)

    def publish(self, path: Path) -> None:
        """Put a file made by ``create`` in its place, after it is on disk."""
        os.fsync(self._descriptor)
        path.with_suffix(".new").replace(path)

    @classmethod
    def open(cls, path: Path) -> RingFile | None:
        """Open an existing file.

        Returns:
            None when it is no ring, or not a whole one.

        Raises:
            FileNotFoundError: there is none.
            UnavailableError: another process holds it.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(descriptor, path)
            geometry = _read_geometry(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if geometry is None:
            os.close(descriptor)
            return None
        return cls(descriptor, geometry)

    def close(self) -> None:
        """Give the file and its lock back."""
        os.close(self._descriptor)

    def sync(self) -> None:
        """Put on disk what was written."""
        os.fdatasync(self._descriptor)

    # The table

    def write_owner(self, column: int, owner: Owner) -> None:
        """Say which series a column holds from which row on.

        Raises:
            ValueError: name and labels are longer than ``SERIES_BYTES_MAX``.
        """
        text = json.dumps(owner.series, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > SERIES_BYTES_MAX:
            raise ValueError(
                f"the series {owner.series.name} has labels of {len(text)} bytes, at most {SERIES_BYTES_MAX}"
            )
        body = struct.pack("<QH", owner.first, len(text)) + text.ljust(SERIES_BYTES_MAX, b"\0")
        os.pwrite(self._descriptor, struct.pack("<I", zlib.crc32(body)) + body, HEADER_BYTES + column * ENTRY_BYTES)

    def read_owners(self) -> dict[int, Owner]:
        """All columns with an owner; a damaged entry counts as free."""
        table = _pread(self._descriptor, self.geometry.columns * ENTRY_BYTES, HEADER_BYTES)
        found = {}
        for column in range(self.geometry.columns):
            entry = table[column * ENTRY_BYTES : (column + 1) * ENTRY_BYTES]
            if (owner := _parse_owner(entry)) is not None:
                found[column] = owner
        return found

    # The rows

    def write_row(self, number: int, wall_ms: int, values: array[float]) -> None:
        """Write the row of this number over the oldest one."""
        geometry = self.geometry
        body = values.tobytes()
        head = _ROW.pack(number, wall_ms, geometry.columns, 0)
        check = zlib.crc32(body, zlib.crc32(head))
        row = head[:-4] + struct.pack("<I", check) + body
        os.pwrite(self._descriptor, row, geometry.rows_at + (number % geometry.rows) * geometry.row_bytes)

    def scan(self) -> Iterator[tuple[int, int, memoryview]]:
        """All whole rows in the order of the file: number, wall time, values as bytes."""
        geometry = self.geometry
        size = geometry.row_bytes
        per_read = max(1, READ_BYTES // size)
        for start in range(0, geometry.rows, per_read):
            count = min(per_read, geometry.rows - start)
            data = memoryview(_pread(self._descriptor, count * size, geometry.rows_at + start * size))
            for index in range(count):
                row = data[index * size : (index + 1) * size]
                if len(row) == size and (head := self._check(row, start + index)) is not None:
                    yield (*head, row[_ROW.size :])

    def _check(self, row: memoryview, slot: int) -> tuple[int, int] | None:
        number, wall_ms, columns, check = _ROW.unpack_from(row)
        if not wall_ms or columns != self.geometry.columns or number % self.geometry.rows != slot:
            return None
        head = _ROW.pack(number, wall_ms, columns, 0)
        return (number, wall_ms) if check == zlib.crc32(row[_ROW.size :], zlib.crc32(head)) else None

    def read_columns(self, numbers: Sequence[int], columns: Sequence[int]) -> list[array[float]]:
        """Read the values of some columns in the rows of these numbers (growing); one array a column."""
        found = [array("d") for _ in columns]
        geometry = self.geometry
        width = geometry.row_bytes // VALUE_BYTES
        per_read = max(1, READ_BYTES // geometry.row_bytes)
        for slot, count in _runs([number % geometry.rows for number in numbers], per_read):
            at = geometry.rows_at + slot * geometry.row_bytes
            values = memoryview(_pread(self._descriptor, count * geometry.row_bytes, at)).cast("d")
            for out, column in zip(found, columns, strict=True):
                out.frombytes(values[ROW_HEADER_VALUES + column :: width].tobytes())
        return found


def _runs(slots: list[int], longest: int) -> Iterator[tuple[int, int]]:
    """Cut a list of slots into runs of neighbours: (first, count)."""
    if not slots:
        return
    first, count = slots[0], 1
    for before, slot in pairwise(slots):
        if slot == before + 1 and count < longest:
            count += 1
        else:
            yield first, count
            first, count = slot, 1
    yield first, count


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UnavailableError(f"{path} is written by another process: is a second control running?") from None


def _pread(descriptor: int, size: int, at: int) -> bytes:
    """Read ``size`` bytes; less only at the end of the file, filled with zeros."""
    data = os.pread(descriptor, size, at)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), at + len(data))
        if not more:
            return data.ljust(size, b"\0")
        data += more
    return data


def _read_geometry(descriptor: int) -> Geometry | None:
    head = _pread(descriptor, _GEOMETRY.size, 0)
    magic, rows, columns, check = _GEOMETRY.unpack(head)
    if magic != MAGIC or check != zlib.crc32(head[:-4]):
        return None
    geometry = Geometry(rows, columns)
    if not 0 < rows <= ROWS_MAX or not 0 < columns <= COLUMNS_MAX:
        return None
    return geometry if os.fstat(descriptor).st_size >= geometry.file_bytes else None


def _parse_owner(entry: bytes) -> Owner | None:
    check, first, length = _ENTRY.unpack_from(entry)
    if not length or length > SERIES_BYTES_MAX or check != zlib.crc32(entry[4:]):
        return None
    name, labels = json.loads(entry[_ENTRY.size : _ENTRY.size + length])
    return Owner(Series(name, tuple((key, value) for key, value in labels)), first)
