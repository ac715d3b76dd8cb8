"""Why it exists: the skills of synthetic-data-generator: bounds, forms of output, the pure modules in order."""

import csv as csv_format
import hashlib
import io
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from sutazai.agents.synthetic_data_generator import copula, fidelity, generating, privacy, reading
from sutazai.agents.synthetic_data_generator.models import ROWS_MAX, Generated, Mimicked, Schema
from sutazai.limits import TASK_RESULT_BYTES_MAX
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("synthetic-data-generator")

Count = Annotated[int, Field(ge=1, le=ROWS_MAX, description="rows")]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="the same seed gives the same rows")]
Form = Annotated[Literal["rows", "csv"], Field(description="rows as objects, or the table as CSV text")]
_RESULT_BYTES_MAX = TASK_RESULT_BYTES_MAX - 256 * 1024  # the reports need a place too


@agent.skill
def generate(schema: Schema, n: Count, ctx: Context, seed: Seed = 0, form: Form = "rows") -> Generated:
    """Make rows that obey a schema: types, ranges, distributions, uniqueness, correlations, foreign keys."""
    ctx.progress(0.1, f"making {n} rows")
    table, parents = generating.tables(schema, n, seed)
    text = _csv(table.columns)
    result = Generated(
        n=n,
        seed=seed,
        digest=_digest(text, *(_csv(parent.columns) for parent in parents.values())),
        fit=generating.fit(schema, table),
        correlations=generating.correlation_fit(schema, table),
        notes=_generate_notes(schema),
    )
    if form == "csv":
        result.csv, result.parents_csv = text, {name: _csv(parent.columns) for name, parent in parents.items()}
    else:
        result.rows, result.parents = table.rows, {name: parent.rows for name, parent in parents.items()}
    _check_size((result.rows, result.parents, result.csv, result.parents_csv), n)
    return result


@agent.skill
def mimic(
    ctx: Context,
    n: Count,
    csv: Annotated[str, Field(max_length=1_000_000, description="the table with its header")] = "",
    path: Annotated[str, Field(max_length=4_000, description="or an absolute path of a file")] = "",
    seed: Seed = 0,
    form: Form = "rows",
) -> Mimicked:
    """Learn a CSV's columns and their dependence (Gaussian copula), sample new rows, report fidelity and privacy."""
    if bool(csv) == bool(path):
        raise NonRetryableError("give either csv (text) or path")
    real = reading.table(csv or reading.from_file(path))
    if n * len(real) > generating.CELLS_MAX:
        raise NonRetryableError(f"{n * len(real)} values are more than {generating.CELLS_MAX}: ask for fewer rows")
    ctx.progress(0.2, f"learning {len(real)} columns of {len(real[0].values)} rows")
    model = copula.learn(real)
    drawn = copula.sample(model, n, seed)
    made = [reading.Real(one.name, one.kind, drawn[one.name], one.decimals, one.form) for one in real]
    columns = {one.name: [reading.written(one, value) for value in one.values] for one in made}
    text = _csv(columns)
    ctx.progress(0.6, "comparing")
    result = Mimicked(
        n=n,
        seed=seed,
        rows_real=len(real[0].values),
        digest=_digest(text),
        columns={one.name: one.kind for one in real},
        fidelity=fidelity.columns(real, made),
        dependence=fidelity.dependence(real, made),
        privacy=privacy.report(real, made, seed),
        notes=_mimic_notes(model),
    )
    if form == "csv":
        result.csv = text
    else:
        result.rows = generating.Table(dict(columns)).rows
    _check_size((result.rows, result.csv), n)
    return result


def _generate_notes(schema: Schema) -> list[str]:
    fakes = sorted({name for name, column in schema.columns.items() if column.type == "fake"})
    if not fakes:
        return []
    return [f"{', '.join(fakes)}: invented by the library Faker; another release of it gives others for the same seed"]


def _mimic_notes(model: copula.Model) -> list[str]:
    notes = []
    for margin in model.margins:
        name = margin.column.name
        if margin.dropped:
            notes.append(
                f"{name}: {margin.dropped} values that fewer than {copula.CATEGORY_ROWS_MIN} rows have were left out, "
                "because a rare value gives its row away"
            )
        if margin.column.kind == "shape":
            notes.append(f"{name}: nearly all texts differ, so new ones of the same shapes were made")
        if margin.null_share:
            notes.append(f"{name}: missing values are drawn by their share alone, not by other columns")
    notes.append("only pairwise dependence through a Gaussian copula is kept; rules between columns are not")
    return notes


def _csv(columns: dict[str, list[Any]]) -> str:
    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\x1e".join(texts).encode()).hexdigest()


def _check_size(parts: Any, n: int) -> None:
    size = len(json.dumps(parts, ensure_ascii=False).encode())
    if size > _RESULT_BYTES_MAX:
        fits = max(1, n * _RESULT_BYTES_MAX // size)
        raise NonRetryableError(
            f"the table has {size} bytes, a result holds {_RESULT_BYTES_MAX}: ask for at most about {fits} rows, or csv"
        )
