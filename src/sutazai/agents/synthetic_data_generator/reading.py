"""Why it exists: a CSV file is text until somebody decides what its columns are; a bad one gets its line named."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from sutazai.agents.synthetic_data_generator.models import COLUMNS_MAX, ROWS_MAX
from sutazai.runtime import NonRetryableError
from sutazai.units import MIB

FILE_BYTES_MAX = 8 * MIB
FIELD_CHARACTERS_MAX = 10_000
CELLS_MAX = 1_000_000
ROWS_MIN = 10
NULLS = frozenset({"", "na", "n/a", "nan", "null", "none"})
_DISCRETE_MAX = 20
_CATEGORIES_MAX = 200
_IDENTIFIER_SHARE = 0.5

Kind = Literal["number", "discrete", "time", "category", "shape"]


@dataclass(frozen=True, slots=True)
class Real:
    """One column of the given table.

    Attributes:
        name: from the header.
        kind: ``number`` (many values), ``discrete`` (numbers, few values), ``time``, ``category``, ``shape`` (texts
            that nearly all differ: names, codes; never copied).
        values: floats for numbers and times (seconds since 1970), texts else; None for missing.
        decimals: of a number, as written.
        form: of a time: ``date``, ``datetime`` or ``datetime-z`` (with a time zone; written anew in UTC).
    """

    name: str
    kind: Kind
    values: list[float | str | None]
    decimals: int = 0
    form: str = ""


def from_file(path: str) -> str:
    """Read a file.

    Raises:
        NonRetryableError: it is not there, may not be read, is too large, or is no UTF-8; says which.
    """
    place = Path(path)
    if not place.is_absolute():
        raise NonRetryableError(f"write an absolute path, not {path!r}: an agent has a working folder of its own")
    try:
        if not place.is_file():
            raise NonRetryableError(f"there is no file {path}, or this agent's user may not see it")
        if (size := place.stat().st_size) > FILE_BYTES_MAX:
            raise NonRetryableError(
                f"{path} has {size} bytes; the limit is {FILE_BYTES_MAX}: give a sample of its lines"
            )
        data = place.read_bytes()
    except OSError as error:
        raise NonRetryableError(f"{path} cannot be read by this agent's user: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NonRetryableError(
            f"{path} is no UTF-8: byte {data[error.start]:#04x} in line {line}; convert it, for example with: "
            "iconv -f latin1 -t utf-8"
        ) from error


def table(text: str) -> list[Real]:
    """Take a CSV text apart and understand its columns.

    Raises:
        NonRetryableError: no header, names twice, rows of another length (the line is named), too few or too many.
    """
    text = text.removeprefix("\ufeff")
    if "\x00" in text:
        raise NonRetryableError("the CSV holds a zero byte: it is no text, or it is UTF-16; convert it to UTF-8")
    rows = _rows(text)
    header = [name.strip() for name in rows[0][1]]
    _check_header(header)
    body = rows[1:]
    for line, row in body:
        if len(row) != len(header):
            raise NonRetryableError(f"line {line} has {len(row)} fields, the header has {len(header)}")
    if not ROWS_MIN <= len(body) <= ROWS_MAX:
        raise NonRetryableError(f"the CSV has {len(body)} rows; {ROWS_MIN} to {ROWS_MAX} can be learned from")
    if (cells := len(body) * len(header)) > CELLS_MAX:
        raise NonRetryableError(f"the CSV has {cells} values; the limit is {CELLS_MAX}: give fewer rows or columns")
    return [_column(name, [row[place].strip() for _, row in body]) for place, name in enumerate(header)]


def _rows(text: str) -> list[tuple[int, list[str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    before = csv.field_size_limit(FIELD_CHARACTERS_MAX)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = []
    try:
        for row in reader:
            if row and any(field.strip() for field in row):
                found.append((reader.line_num, row))
            if len(found) > ROWS_MAX + 1:
                raise NonRetryableError(f"the CSV has more than {ROWS_MAX} rows: give a sample of them")
    except csv.Error as error:
        raise NonRetryableError(f"the CSV is broken near line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)
    if not found:
        raise NonRetryableError("the CSV is empty")
    return found


def _check_header(header: list[str]) -> None:
    if len(header) > COLUMNS_MAX:
        raise NonRetryableError(f"the CSV has {len(header)} columns; the limit is {COLUMNS_MAX}")
    if "" in header:
        raise NonRetryableError(f"column {header.index('') + 1} has no name in the header")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise NonRetryableError(f"the header has {twice[0]!r} twice")
    if all(_number(name) is not None for name in header):
        raise NonRetryableError("the first line holds numbers only: the CSV needs a header with names")


def _column(name: str, texts: list[str]) -> Real:
    given: list[str | None] = [None if text.lower() in NULLS else text for text in texts]
    known = [text for text in given if text is not None]
    if not known:
        return Real(name, "category", list(given))
    if all(_number(text) is not None for text in known):
        numbers = [None if text is None else _number(text) for text in given]
        decimals = min(9, max(len(text.partition(".")[2]) if "e" not in text.lower() else 9 for text in known))
        few = len(set(known)) <= min(_DISCRETE_MAX, max(2, len(known) // 3))
        return Real(name, "discrete" if few else "number", list(numbers), decimals)
    form = _time_form(known)
    if form:
        return Real(name, "time", [None if text is None else _seconds(text) for text in given], 0, form)
    distinct = len(set(known))
    if distinct > max(_DISCRETE_MAX, _IDENTIFIER_SHARE * len(known)) or distinct > _CATEGORIES_MAX:
        return Real(name, "shape", list(given))
    return Real(name, "category", list(given))


def _number(text: str) -> float | None:
    if "_" in text:
        return None  # float() takes it, people do not mean it
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e15 else None  # noqa: PLR2004 beyond it decimals are lost


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _time_form(known: list[str]) -> str:
    moments = [_moment(text) for text in known]
    if any(moment is None for moment in moments):
        return ""
    zones = {moment.tzinfo is not None for moment in moments if moment is not None}
    if len(zones) > 1:
        return ""
    dates = all(_is_date(text) for text in known)
    return "date" if dates else "datetime-z" if zones == {True} else "datetime"


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float | None:
    moment = _moment(text)
    if moment is None:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def written(column: Real, value: float | str | None) -> float | int | str | None:
    """Write a value as the given table does."""
    if value is None or isinstance(value, str):
        return value
    if column.kind == "time":
        moment = datetime.fromtimestamp(value, UTC)
        if column.form == "date":
            return moment.date().isoformat()
        return (moment if column.form == "datetime-z" else moment.replace(tzinfo=None)).isoformat(timespec="seconds")
    return round(value) if column.decimals == 0 else round(value, column.decimals)
