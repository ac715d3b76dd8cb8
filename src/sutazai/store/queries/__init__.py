"""Why it exists: SQL lives in named, described files, not in strings between lines of Python.

A query starts with ``-- name: …``, its description in comment lines, then one statement that ends with ``;``. The files
next to this module are what all databases understand (and, where they cannot agree, what SQLite does); a folder with a
dialect's name replaces queries by their names, and adds what only its driver needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sutazai.errors import InternalError

_MARK = "-- name: "
_PLACE = re.compile(r"'(?:[^']|'')*'|\?(\d*)|(?<![:\w]):([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement.

    Attributes:
        name: unique over all files of a dialect.
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
def own(dialect: str = "") -> dict[str, Query]:
    """Read the query files of a folder, once: the common ones, or those of a dialect alone.

    Raises:
        InternalError: two queries have one name, or one has no description or no statement.
    """
    found: dict[str, Query] = {}
    for path in sorted((Path(__file__).parent / dialect).glob("*.sql")):
        for query in _parse(path.read_text(encoding="utf-8")):
            if query.name in found or not query.description or not query.sql:
                raise InternalError(f"{path.name}: the query {query.name!r} is double, undescribed or empty")
            found[query.name] = query
    return found


def queries(dialect: str = "") -> dict[str, Query]:
    """Give all queries of a dialect by name; without a name those that SQLite runs."""
    return {**own(), **own(dialect)} if dialect else own()


def sql(name: str, dialect: str = "") -> str:
    """Give the statement of a name.

    Raises:
        InternalError: there is none.
    """
    query = queries(dialect).get(name)
    if query is None:
        raise InternalError(f"there is no query {name!r}")
    return query.sql


def numbered(statement: str) -> tuple[str, tuple[str, ...] | None]:
    """Number the places of a statement: ``$1``, ``$2`` and so on.

    Returns:
        The statement; and the names of its values in order, None when they are given by position.
    """
    names: list[str] = []
    count = 0

    def place(found: re.Match[str]) -> str:
        nonlocal count
        if found[2] is not None:
            if found[2] not in names:
                names.append(found[2])
            return f"${names.index(found[2]) + 1}"
        if found[1] is None:
            return found[0]
        count += not found[1]
        return f"${found[1] or count}"

    text = _PLACE.sub(place, statement)
    return text, tuple(names) if names else None
