"""synthetic-data-generator keeps to its schema, learns a table without copying it, and refuses what it cannot do."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.synthetic_data_generator import privacy, reading

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Broker

AGENT = "synthetic-data-generator"
UNIT = {"type": "number", "min": 0, "max": 1, "decimals": 6}


def generate(broker: Broker, columns: dict[str, Any], n: int = 50, **more: Any) -> dict[str, Any]:
    """Make a table; extras go into the schema."""
    seed = more.pop("seed", 3)
    result = broker.ask(AGENT, "generate", {"n": n, "seed": seed, "schema": {"columns": columns, **more}}).require()
    assert isinstance(result, dict)
    return result


def refused(broker: Broker, skill: str, data: dict[str, Any]) -> tuple[str, str]:
    """Code and message of a refusal."""
    error = broker.ask(AGENT, skill, data).error
    assert error is not None
    return error["code"], error["message"]


def people(rows: int = 300, seed: int = 1) -> str:
    """A table whose salary depends on department and age, with a key, a name, a date and missing values."""
    chance = random.Random(seed)  # noqa: S311 a table for a test
    lines = ["id;name;dept;age;salary;hired;note"]
    for number in range(rows):
        dept = chance.choice(["eng", "eng", "ops"])
        age = max(18, round(chance.gauss(40, 9)))
        salary = (70 if dept == "eng" else 45) * 1000 + age * 500 + chance.gauss(0, 3000)
        name = f"{chance.choice('ABC')}{''.join(chance.choices('abcd', k=7))}"
        hired = f"2024-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
        lines.append(f"E{number:04d};{name};{dept};{age};{salary:.2f};{hired};{chance.choice(['x', 'y', ''])}")
    return "\n".join(lines)


def test_every_type_keeps_its_promise(broker: Broker) -> None:
    """Bounds, uniqueness, patterns, keys, dates and missing values are as asked."""
    result = generate(
        broker,
        {
            "key": {"type": "sequence", "start": 10, "step": 5},
            "one": {"type": "integer", "min": 1, "max": 50, "unique": True},
            "few": {"type": "integer", "min": 0, "max": 9, "distribution": "poisson", "mean": 3},
            "long": {"type": "number", "min": 0, "max": 50, "distribution": "exponential", "mean": 10, "decimals": 1},
            "code": {"type": "pattern", "pattern": "A-#?", "unique": True},
            "day": {"type": "datetime", "start": "2026-01-01", "end": "2026-01-31", "unit": "day"},
            "at": {"type": "datetime", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
            "yes": {"type": "boolean", "true_share": 1},
            "gone": {"type": "boolean", "null_share": 1},
            "kind": {"type": "category", "values": ["a", 1, True], "weights": [1, 0, 0]},
            "shop": {"type": "reference", "to": "shops.id"},
        },
        parents={"shops": {"n": 4, "columns": {"id": {"type": "sequence"}}}},
    )
    rows = result["rows"]
    assert [row["key"] for row in rows] == list(range(10, 260, 5))
    assert sorted(row["one"] for row in rows) == list(range(1, 51))
    assert all(0 <= row["few"] <= 9 and 0 <= row["long"] <= 50 and row["yes"] is True for row in rows)
    assert len({row["code"] for row in rows}) == 50
    assert all("2026-01-01" <= row["day"] <= "2026-01-31" for row in rows)
    assert all("2026-01-01T00:00:00+00:00" <= row["at"] <= "2026-01-02T00:00:00+00:00" for row in rows)
    assert {row["kind"] for row in rows} == {"a"}
    assert {row["gone"] for row in rows} == {None}
    assert {row["shop"] for row in rows} == {1, 2, 3, 4}
    assert result["fit"][8]["nulls"] == 50


def test_a_seed_is_a_table_and_columns_do_not_disturb_each_other(broker: Broker) -> None:
    """The digest repeats itself, another seed gives another; a new column changes no value of the old one."""
    first = generate(broker, {"a": UNIT})
    assert generate(broker, {"a": UNIT})["digest"] == first["digest"]
    assert generate(broker, {"a": UNIT}, seed=4)["digest"] != first["digest"]
    wider = generate(broker, {"b": UNIT, "a": UNIT})
    assert [row["a"] for row in wider["rows"]] == [row["a"] for row in first["rows"]]


def test_distributions_and_correlations_are_met(broker: Broker) -> None:
    """Of many rows the distance to the asked distribution and to the asked correlation is small."""
    result = generate(
        broker,
        {
            "age": {"type": "integer", "min": 18, "max": 90, "distribution": "normal", "mean": 40, "sd": 15},
            "pay": {"type": "number", "min": 0, "max": 1e6, "distribution": "lognormal", "mean": 10, "sd": 0.5},
            "when": {"type": "datetime", "start": "2026-01-01", "end": "2026-12-31"},
        },
        n=5_000,
        correlations=[{"a": "age", "b": "pay", "rho": 0.7}, {"a": "age", "b": "when", "rho": -0.4}],
    )
    assert result["fit"][0]["distance"] < 0.03
    assert result["fit"][1]["distance"] < 0.03
    assert [pair["found"] for pair in result["correlations"]] == pytest.approx([0.7, -0.4], abs=0.04)


def test_invented_names_are_of_the_locale_and_repeat(broker: Broker) -> None:
    """The library is asked with the seed; the note says whose invention they are."""
    columns = {"name": {"type": "fake", "kind": "name", "locale": "de_DE", "unique": True}}
    one, other = generate(broker, columns), generate(broker, columns)
    assert one["digest"] == other["digest"]
    assert len({row["name"] for row in one["rows"]}) == 50
    assert "Faker" in one["notes"][0]


def test_csv_is_the_same_table(broker: Broker) -> None:
    """The other form holds the same rows, parents too."""
    schema = {
        "columns": {"a": {"type": "sequence"}, "b": {"type": "reference", "to": "p.k"}},
        "parents": {"p": {"n": 2, "columns": {"k": {"type": "sequence"}}}},
    }
    result = broker.ask(AGENT, "generate", {"n": 3, "schema": schema, "form": "csv"}).require()
    assert result["csv"].splitlines()[0] == "a,b"
    assert result["parents_csv"] == {"p": "k\n1\n2\n"}
    assert result["rows"] == []


@pytest.mark.parametrize(
    ("columns", "more", "code", "text"),
    [
        ({"a": {"type": "integer", "min": 2, "max": 1}}, {}, "invalid-input", "min 2 is above max 1"),
        ({"a": {"type": "magic"}}, {}, "invalid-input", "magic"),
        ({"a": {"type": "number", "min": 0, "max": 1, "distribution": "normal"}}, {}, "invalid-input", "needs mean"),
        ({"a": {**UNIT, "mean": 1}}, {}, "invalid-input", "does not take mean"),
        (
            {"a": {"type": "category", "values": ["x"], "weights": [1, 2]}},
            {},
            "invalid-input",
            "1 values and 2 weights",
        ),
        ({"a": {"type": "category", "values": ["x", "x"]}}, {}, "invalid-input", "twice"),
        ({"a": {"type": "integer", "min": 1, "max": 9, "unique": True}}, {}, "non-retryable", "do not fit"),
        ({"a": {"type": "pattern", "pattern": "#", "unique": True}}, {}, "non-retryable", "10 codes"),
        ({"a": {"type": "fake", "kind": "name", "locale": "xx_XX"}}, {}, "non-retryable", "no locale"),
        ({"a": {"type": "fake", "kind": "country", "unique": True}}, {"n": 900}, "non-retryable", "different values"),
        ({"a": {"type": "reference", "to": "p.k"}}, {}, "non-retryable", "no p.k"),
        (
            {"a": {"type": "number", "min": 900, "max": 901, "distribution": "normal", "mean": 0, "sd": 1}},
            {},
            "non-retryable",
            "nothing between",
        ),
        ({"a": UNIT}, {"correlations": [{"a": "a", "b": "b", "rho": 0.1}]}, "non-retryable", "'b' is no column"),
        ({"a": UNIT}, {"correlations": [{"a": "a", "b": "a", "rho": 0.1}]}, "non-retryable", "makes no sense"),
        ({f"c{i}": UNIT for i in range(20)}, {"n": 50_000}, "non-retryable", "more than 400000"),
        ({"a": {"type": "fake", "kind": "paragraph"}}, {"n": 40_000}, "non-retryable", "ask for at most about"),
    ],
)
def test_what_cannot_be_made_is_refused(
    broker: Broker, columns: dict[str, Any], more: dict[str, Any], code: str, text: str
) -> None:
    """Each mistake has its code and says what is wrong."""
    n = more.pop("n", 50) if "n" in more else 50
    found = refused(broker, "generate", {"n": n, "schema": {"columns": columns, **more}})
    assert found[0] == code
    assert text in found[1]


def test_a_parents_column_that_is_no_key_is_refused(broker: Broker) -> None:
    """A reference needs unique values."""
    schema = {
        "columns": {"a": {"type": "reference", "to": "p.k"}},
        "parents": {"p": {"n": 3, "columns": {"k": {"type": "boolean", "true_share": 1}}}},
    }
    assert "is no key" in refused(broker, "generate", {"n": 3, "schema": schema})[1]


def test_a_table_is_learned(broker: Broker) -> None:
    """Kinds are understood, distributions and dependence are kept, and no text was copied."""
    text = people()
    result = broker.ask(AGENT, "mimic", {"csv": text, "n": 600, "seed": 2}).require()
    assert result["columns"] == {
        "id": "shape", "name": "shape", "dept": "category", "age": "number", "salary": "number", "hired": "time",
        "note": "category",
    }  # fmt: skip
    assert all(entry["distance"] < 0.1 for entry in result["fidelity"])
    pairs = {(pair["a"], pair["b"]): pair for pair in result["dependence"]["pairs"]}
    assert pairs["dept", "salary"]["real"] > 0.8
    assert pairs["dept", "salary"]["difference"] < 0.2
    real_names = {line.split(";")[1] for line in text.splitlines()}
    assert not real_names & {row["name"] for row in result["rows"]}
    assert all(len(row["id"]) == 5 and row["id"][0].isupper() and row["id"][1:].isdigit() for row in result["rows"])
    assert sum(row["note"] is None for row in result["rows"]) == pytest.approx(200, abs=50)
    assert result["privacy"]["copies"] == 0
    assert result["privacy"]["verdict"] == "no-sign-of-copying"
    assert broker.ask(AGENT, "mimic", {"csv": text, "n": 600, "seed": 2}).require()["digest"] == result["digest"]


def test_a_table_of_copies_is_found_out() -> None:
    """The privacy report of a table against itself says that it is a copy: the report can fail."""
    real = reading.table(people())
    found = privacy.report(real, real, 1)
    assert found.verdict == "copies"
    assert found.copies_share == 1
    assert found.to_real_median == 0


def test_few_rows_get_no_verdict(broker: Broker) -> None:
    """Twelve rows can be learned from, but distances of them say nothing."""
    text = "a,b\n" + "\n".join(f"{i},{i * i % 7}" for i in range(12))
    assert broker.ask(AGENT, "mimic", {"csv": text, "n": 5}).require()["privacy"]["verdict"] == "too-few-rows"


def test_rare_values_are_left_out(broker: Broker) -> None:
    """A category of one row is never sampled, and the note says so."""
    text = "a,b\n" + "\n".join(f"{i},{'rare' if i == 7 else 'xy'[i % 2]}" for i in range(60))
    result = broker.ask(AGENT, "mimic", {"csv": text, "n": 2_000}).require()
    assert {row["b"] for row in result["rows"]} == {"x", "y"}
    assert any("1 values that fewer than 3 rows have" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 fields"),
        ("a,a\n1,2\n", "'a' twice"),
        ("a,\n1,2\n", "column 2 has no name"),
        ("1,2\n3,4\n", "needs a header"),
        ("\n\n", "empty"),
        ("a\n" + "1\n" * 5, "5 rows"),
        ('a\n"1\n2\n', "broken near line"),
        ("a\x00b\n1\n", "zero byte"),
        ("a\n" + "x" * 20_000, "broken near line"),
        (",".join(f"c{i}" for i in range(61)), "61 columns"),
    ],
)
def test_a_bad_csv_is_refused_with_its_place(broker: Broker, text: str, said: str) -> None:
    """Each mistake is named, with the line where there is one."""
    code, message = refused(broker, "mimic", {"csv": text, "n": 5})
    assert code == "non-retryable"
    assert said in message


def test_files_are_read_or_refused(broker: Broker, tmp_path: Path) -> None:
    """A file gives what its text gives; a missing, foreign, large or relative one is told apart."""
    (tmp_path / "good.csv").write_text("\ufeff" + people(40))
    given = {"path": str(tmp_path / "good.csv"), "n": 5, "form": "csv"}
    assert broker.ask(AGENT, "mimic", given).require()["csv"].startswith("id,name,dept")
    (tmp_path / "latin.csv").write_bytes(b"name\nk\xe4se\n")
    (tmp_path / "large.csv").write_bytes(b"a\n" * (reading.FILE_BYTES_MAX // 2 + 1))
    for path, said in (
        (str(tmp_path / "none.csv"), "there is no file"),
        (str(tmp_path / "latin.csv"), "byte 0xe4 in line 2"),
        (str(tmp_path / "large.csv"), "the limit is 8388608"),
        ("good.csv", "absolute path"),
        (str(tmp_path), "there is no file"),
    ):
        assert said in refused(broker, "mimic", {"path": path, "n": 5})[1]
    assert "either csv" in refused(broker, "mimic", {"n": 5})[1]
