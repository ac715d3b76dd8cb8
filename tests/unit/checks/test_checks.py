"""Checks are read with all their mistakes at once, and judged exactly or within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.checks import Check, Expectation, judge, load, load_peak_max_bytes
from sutazai.errors import ConfigErrors

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
[[check]]
name = "sum"
skill = "add"
input = { left = 1, right = 2 }
expect = { path = "total", equals = 3 }

[[check]]
name = "bad"
skill = "add"
input = { left = "x" }
error = "invalid-input"

[memory]
peak_max = "96MB"
"""


def test_a_file_is_read(tmp_path: Path) -> None:
    """Checks come in the file's order, with their input and what is expected; the folder's name is enough."""
    (tmp_path / "checks.toml").write_text(GOOD)
    checks = load(tmp_path)
    assert checks == load(tmp_path / "checks.toml")
    assert checks[0] == Check("sum", "add", {"left": 1, "right": 2}, (Expectation("total", {"equals": 3}),))
    assert checks[1].error == "invalid-input"
    assert load_peak_max_bytes(tmp_path) == 96 * 2**20


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Every mistake of a file is named in one error, with the check it is in."""
    (tmp_path / "checks.toml").write_text("""
        odd = 1
        [[check]]
        name = "a"
        skill = "s"
        expect = { path = "x" }
        [[check]]
        name = "b"
        skil = "s"
        error = "e"
        expect = { equals = 1 }
        [[check]]
        name = "c"
        skill = "s"
        expect = { matches = "(" }
        [[check]]
        name = "d"
        skill = "s"
        input = 3
        expect = [{ equal = 1 }]
    """)
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path)
    text = "\n".join(str(mistake) for mistake in caught.value.exceptions)
    for part in (
        "odd",
        "a: 'expect' says nothing",
        "skil",
        "'skill' is missing",
        "either",
        "regular",
        "'input'",
        "equal",
    ):
        assert part in text


@pytest.mark.parametrize("text", ["", "[[check", '[memory]\npeak_max = "1MB"'])
def test_no_checks(tmp_path: Path, text: str) -> None:
    """An empty file, no TOML, or a file without checks is refused, and so is a missing one."""
    (tmp_path / "checks.toml").write_text(text)
    with pytest.raises(ConfigErrors):
        load(tmp_path)
    with pytest.raises(ConfigErrors):
        load(tmp_path / "missing.toml")


def test_two_of_one_name(tmp_path: Path) -> None:
    """Names are unique, so that a failed check can be found."""
    entry = '[[check]]\nname = "a"\nskill = "s"\nerror = "e"\n'
    (tmp_path / "checks.toml").write_text(entry + entry)
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path)
    assert "called 'a'" in str(caught.value.exceptions[0])


def test_peak_needs_a_unit(tmp_path: Path) -> None:
    """A bare number is a mistake; no [memory] is none."""
    (tmp_path / "checks.toml").write_text("[memory]\npeak_max = 3")
    with pytest.raises(ConfigErrors):
        load_peak_max_bytes(tmp_path)
    (tmp_path / "checks.toml").write_text("")
    assert load_peak_max_bytes(tmp_path) is None


RESULT = {
    "total": 3,
    "mean": 2.0005,
    "names": ["ann", "bob"],
    "parts": [{"id": 1, "tags": ["x"]}, {"id": 2}],
    "ok": True,
}


@pytest.mark.parametrize(
    ("path", "rules", "holds"),
    [
        ("total", {"equals": 3}, True),
        ("total", {"equals": 3.0}, True),
        ("total", {"equals": True}, False),
        ("ok", {"equals": True}, True),
        ("ok", {"equals": 1}, False),
        ("mean", {"equals": 2, "tolerance": 0.001}, True),
        ("mean", {"equals": 2}, False),
        ("total", {"min": 3, "max": 3}, True),
        ("total", {"min": 4}, False),
        ("names", {"min": 2, "max": 2}, True),
        ("names.0", {"max": 3}, True),
        ("ok", {"min": 0}, False),
        ("names", {"contains": "bob"}, True),
        ("names", {"contains": "bo"}, False),
        ("names.1", {"contains": "bo"}, True),
        ("parts", {"contains": {"id": 1}}, True),
        ("parts", {"contains": {"id": 1, "tags": ["x"]}}, True),
        ("parts", {"contains": {"id": 3}}, False),
        ("parts.0", {"contains": "tags"}, True),
        ("parts.-1.id", {"equals": 2}, True),
        ("", {"contains": {"total": 3}}, True),
        ("names.0", {"matches": "^a.n$"}, True),
        ("total", {"matches": "3"}, False),
        ("parts.5.id", {"equals": 1}, False),
        ("nothing", {"equals": 1}, False),
    ],
)
def test_rules(path: str, rules: dict[str, Any], holds: bool) -> None:  # noqa: FBT001 a parameter of the table above
    """Each rule holds and fails as the reference page says, and a failure names both sides."""
    verdict = judge(Check("c", "s", {}, (Expectation(path, rules),)), {"status": "succeeded", "result": RESULT})
    assert verdict.ok is holds, verdict.text
    assert verdict.text


def test_expected_errors() -> None:
    """A bad input passes only with its own code; a success is no error, and an error is no success."""
    bad = Check("c", "s", error="invalid-input")
    refused = {"status": "failed", "error": {"code": "invalid-input", "message": "x"}}
    assert judge(bad, refused).ok
    assert judge(bad, {"task": refused}).ok
    assert not judge(bad, {"status": "failed", "error": {"code": "skill-failed"}}).ok
    assert not judge(bad, {"status": "succeeded", "result": 1}).ok
    good = Check("c", "s", expectations=(Expectation("", {"equals": 1}),))
    verdict = judge(good, refused)
    assert not verdict.ok
    assert "invalid-input" in verdict.text
