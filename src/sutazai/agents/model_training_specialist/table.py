"""Why it exists: a CSV becomes a table whose columns have a use, or the reason why it cannot be one is said."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.agents.model_training_specialist.models import Column, Task
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame, Series  # type: ignore[import-untyped]

CSV_BYTES_MAX = 8 * 1_048_576
ROWS_MAX = 20_000
ROWS_MIN = 20
COLUMNS_MAX = 200
CELLS_MAX = 1_000_000
CLASSES_MAX = 50
CLASS_ROWS_MIN = 2
CATEGORIES_MAX = 50
_REGRESSION_DISTINCT_MIN = 12


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be trained on.

    Attributes:
        frame: features, one column each; numbers are floats, categories are texts, missing is NaN or ``None``.
        target: what is to be predicted; texts or floats.
        task: kind of the target.
        columns: how each column is used.
        digest: sha256 of the CSV.
        notes: what was done to it.
    """

    frame: DataFrame
    target: Series
    task: Task
    columns: list[Column]
    digest: str
    notes: list[str]


def parse(text: str) -> DataFrame:
    """Read a CSV.

    Raises:
        NonRetryableError: it is too large, has no header, no rows, columns of one name, or lines of other lengths.
    """
    import pandas as pd

    if len(text.encode()) > CSV_BYTES_MAX:
        raise NonRetryableError(f"the CSV has more than {CSV_BYTES_MAX // 1_048_576} MB")
    header = text.lstrip("\ufeff\r\n").partition("\n")[0]
    if header.count(",") >= COLUMNS_MAX:
        raise NonRetryableError(f"the CSV has more than {COLUMNS_MAX} columns")
    try:
        frame = pd.read_csv(
            io.StringIO(text.lstrip("\ufeff")), dtype=object, keep_default_na=True, skipinitialspace=True,
            nrows=ROWS_MAX + 1, index_col=False, header=None,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as error:
        raise NonRetryableError(f"the CSV cannot be read: {str(error).strip()}") from error
    names = ["" if isinstance(name, float) else str(name).strip() for name in frame.iloc[0]]
    if "" in names or len(set(names)) < len(names):
        raise NonRetryableError("the first line of the CSV names the columns, each differently")
    frame = frame.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index(names, dtype=object)
    if len(frame) > ROWS_MAX:
        raise NonRetryableError(f"the CSV has more than {ROWS_MAX} rows: train on a sample")
    if frame.size > CELLS_MAX:
        raise NonRetryableError(f"the CSV has more than {CELLS_MAX} cells: leave columns or rows out")
    return frame


def prepare(text: str, target: str, task: Task | None) -> Table:
    """Read a CSV, find out what is to be predicted and how each column is used.

    Raises:
        NonRetryableError: as ``parse``; or no such target, a target of one value, or nothing to learn from.
    """
    frame = parse(text)
    if target not in frame.columns:
        raise NonRetryableError(f"there is no column {target!r}; there are: {', '.join(map(str, frame.columns))}")
    notes = []
    known = frame[target].notna()
    if dropped := int((~known).sum()):
        notes.append(f"{dropped} rows without a value of {target} are left out")
    frame = frame[known].reset_index(drop=True)
    if len(frame) < ROWS_MIN:
        raise NonRetryableError(f"{len(frame)} rows with a value of {target}: at least {ROWS_MIN} are needed")
    answer, kind = _target(frame[target], task)
    if kind == "classification":
        rare = [str(name) for name, count in answer.value_counts().items() if count < CLASS_ROWS_MIN]
        if rare:
            notes.append(f"classes with a single row are left out: {', '.join(sorted(rare))}")
            keep = ~answer.isin(rare)
            frame, answer = frame[keep].reset_index(drop=True), answer[keep].reset_index(drop=True)
    if answer.nunique() < 2:  # noqa: PLR2004 one value is nothing to learn
        raise NonRetryableError(f"{target} has one value only: there is nothing to predict")
    features = frame.drop(columns=[target])
    columns = [_column(features[name]) for name in features.columns]
    used = [column for column in columns if column.use != "dropped"]
    if not used:
        raise NonRetryableError("no column is left to learn from: each is constant, empty or different in each row")
    return Table(shape(features, used), answer, kind, columns, hashlib.sha256(text.encode()).hexdigest(), notes)


def shape(frame: DataFrame, used: Sequence[Column]) -> DataFrame:
    """Give the used columns their types, in their order.

    Raises:
        NonRetryableError: a column is not there, or a cell of a number's column is no number.
    """
    import pandas as pd

    if missing := [column.name for column in used if column.name not in frame.columns]:
        raise NonRetryableError(f"columns are missing: {', '.join(missing)}")
    parts: dict[str, Any] = {}
    for column in used:
        values = frame[column.name]
        if column.use == "number":
            try:
                parts[column.name] = pd.to_numeric(values).astype(float)
            except (ValueError, TypeError) as error:
                raise NonRetryableError(f"column {column.name} holds numbers in training; here: {error}") from error
        else:
            parts[column.name] = values.map(_word).astype(object)
    return pd.DataFrame(parts)


def _word(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    return str(value).strip()


def _numbers(values: Series) -> Series | None:
    import pandas as pd

    try:
        numbers = pd.to_numeric(values)
    except (ValueError, TypeError):
        return None
    return numbers.astype(float)


def _target(values: Series, task: Task | None) -> tuple[Series, Task]:
    numbers = _numbers(values)
    distinct = values.nunique()
    guess: Task = "classification"
    if numbers is not None and (distinct >= _REGRESSION_DISTINCT_MIN or bool((numbers % 1 != 0).any())):
        guess = "regression"
    kind = task or guess
    if kind == "regression":
        if numbers is None:
            raise NonRetryableError("a regression needs a target of numbers; this one holds words")
        if not bool(numbers.map(math.isfinite).all()):
            raise NonRetryableError("the target holds infinite values")
        return numbers, kind
    if distinct > CLASSES_MAX:
        raise NonRetryableError(f"the target has {distinct} classes; at most {CLASSES_MAX}: group the rare ones")
    return values.map(_word).astype(object), kind


def _column(values: Series) -> Column:
    name, missing = str(values.name), int(values.isna().sum())
    distinct = values.nunique()
    if distinct <= 1:
        return Column(name=name, use="dropped", why="constant or empty", missing=missing)
    numbers = _numbers(values)
    if numbers is not None:
        if bool(numbers.abs().eq(math.inf).any()):
            return Column(name=name, use="dropped", why="holds infinite values", missing=missing)
        if distinct == len(values) and _counts(numbers):
            return Column(name=name, use="dropped", why="counts the rows", missing=missing)
        return Column(name=name, use="number", missing=missing)
    if distinct > max(CATEGORIES_MAX, len(values) // 10):
        return Column(name=name, use="dropped", why=f"{distinct} different texts", missing=missing)
    return Column(name=name, use="category", missing=missing)


def _counts(numbers: Series) -> bool:
    steps = numbers.diff().dropna()
    return bool((steps == 1).all())
