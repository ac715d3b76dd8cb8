"""Why it exists: SQL lives in named, described files, not in strings between lines of Python.

A query starts with ``-- name: …``, its description in comment lines, then one statement that ends with ``;``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sutazai.errors import InternalError

_MARK = "-- name: "


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement.

    Attributes:
        name: unique over all files.
        description: what it is for, from the comment above it.
        sql: the statement.
    """

    name: str
    description: str
    sql: str


def _parse(text: str) -> list[Query]:
    found = []
    for block in text.split(_MARK)[1:]:
        name, _, rest = block.partition("\n")
        lines = rest.strip().splitlines()
        comments = [line[2:].strip() for line in lines if line.startswith("--")]
        statement = "\n".join(line for line in lines if not line.startswith("--")).rstrip().removesuffix(";")
        found.append(Query(name.strip(), " ".join(comments), statement))
    return found


@cache
def queries() -> dict[str, Query]:
    """Read all query files next to this module, once.

    Raises:
        InternalError: two queries have one name, or one has no description or no statement.
    """
    found: dict[str, Query] = {}
    for path in sorted(Path(__file__).parent.glob("*.sql")):
        for query in _parse(path.read_text(encoding="utf-8")):
            if query.name in found or not query.description or not query.sql:
                raise InternalError(f"{path.name}: the query {query.name!r} is double, undescribed or empty")
            found[query.name] = query
    return found


def sql(name: str) -> str:
    """Give the statement of a name.

    Raises:
        InternalError: there is none.
    """
    query = queries().get(name)
    if query is None:
        raise InternalError(f"there is no query {name!r}")
    return query.sql
