"""SQL lives in named, described files, and every query is used."""

from __future__ import annotations

from pathlib import Path

import pytest

import sutazai.store
from sutazai.errors import InternalError
from sutazai.store.queries import _parse, queries, sql


def test_every_query_is_described_and_used() -> None:
    """A query that no module names is dead; one without a sentence is unexplained."""
    code = "\n".join(path.read_text() for path in Path(sutazai.store.__file__).parent.glob("*.py"))
    for query in (queries() | queries("postgres")).values():
        assert query.description.endswith((".", "once.")), query.name
        assert f'"{query.name}"' in code, f"{query.name} is not used"


def test_a_query_that_does_not_exist_stops_the_program() -> None:
    """A wrong name is found when the module is imported."""
    with pytest.raises(InternalError, match="no query 'none'"):
        sql("none")


def test_a_file_is_cut_into_names_comments_and_statements() -> None:
    """Comments become the description, the rest the statement without its semicolon."""
    found = _parse("-- name: one\n-- First.\n-- Second.\nSELECT 1\nFROM x;\n\n-- name: two\n-- More.\nSELECT 2;\n")
    assert [(query.name, query.description, query.sql) for query in found] == [
        ("one", "First. Second.", "SELECT 1\nFROM x"),
        ("two", "More.", "SELECT 2"),
    ]
