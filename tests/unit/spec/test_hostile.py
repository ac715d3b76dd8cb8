"""Manifests made to hurt: each ends in a clear mistake, and the work until then has a bound that does not grow."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from sutazai.limits import (
    MANIFEST_COMMAND_CHARACTERS_MAX,
    MANIFEST_CPU_SETS_MAX,
    MANIFEST_MESSAGE_CHARACTERS_MAX,
    MANIFEST_MISTAKES_COUNTED_MAX,
    MANIFEST_MISTAKES_MAX,
    MANIFEST_NODES_MAX,
    MANIFEST_TEXT_CHARACTERS_MAX,
)
from sutazai.spec import document, section
from sutazai.spec.graph import layers

if TYPE_CHECKING:
    from conftest import Load, Wrong

SERVICE = "fleet: a\nservices:\n  s: {{command: x, memory: 1MB, {}}}\n"


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        ("eighty", "'eighty' is no port"),
        ('"-1"', "'-1' is no port"),
        ("0", "'0' is no port"),
        ("65536", "'65536' is no port"),
        ("99999999999999999999", "is no port"),
        ("0x1F90", "'0x1F90' is no port"),
        ("1e4", "'1e4' is no port"),
        ("'8080:80'", "'8080:80' is no port"),
        ("[10600]", "here is one value meant, not a list"),
        ("{a: 1}", "here is one value meant, not keys with values"),
    ],
)
def test_ports_that_are_none(wrong: Wrong, port: str, problem: str) -> None:
    """Words, negatives, numbers beyond the last port and other spellings are named, each with what a port is."""
    (mistake,) = wrong(SERVICE.format(f"port: {port}"))
    assert problem in mistake.problem
    assert mistake.line == 3
    assert mistake.hint


def test_a_port_in_quotes_is_that_port(load: Load) -> None:
    """Quotes around a number are a habit of Compose files; they change nothing."""
    assert load(SERVICE.format('port: "10600"')).services["s"].ports[0].number == 10600


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ("1e3MB", "'1e3MB'"),
        ("512", "512 has no unit"),
        ("-512MB", "negative"),
        ("0MB", "is nothing"),
        ("5 1 2 MB", "is not a size"),
        ("9" * 400 + "GB", "memory"),
        (".inf", "is not a size"),
    ],
)
def test_sizes_that_are_none(wrong: Wrong, size: str, problem: str) -> None:
    """Exponents, missing units, negatives, nothing and the endless are refused with what to write."""
    mistakes = wrong(f"fleet: a\nservices:\n  s: {{command: x, memory: {size}}}\n")
    assert any(problem in mistake.problem for mistake in mistakes)
    assert all(mistake.hint and mistake.line == 3 for mistake in mistakes)


@pytest.mark.parametrize("text", ["fleet: a\x00b\n", "\x00", "fleet: a\nhost:\n\x00\n"])
def test_nul_bytes(wrong: Wrong, text: str) -> None:
    """A NUL byte has a line and a column."""
    (mistake,) = wrong(text)
    assert "U+0000" in mistake.problem
    assert mistake.column >= 1


def test_nul_by_an_escape(wrong: Wrong) -> None:
    """A NUL that a quoted text writes as an escape is refused too: no argument of a program can hold it."""
    assert any("NUL" in mistake.problem for mistake in wrong(SERVICE.format('user: "a\\0b"')))


def test_two_hundred_thousand_lines(wrong: Wrong) -> None:
    """Too many values end the reading where the bound is met, not at the end of the file."""
    (mistake,) = wrong("fleet: a\n" + "".join(f"k{number}: 1\n" for number in range(200_000)))
    assert mistake.problem == f"holds more than {MANIFEST_NODES_MAX} values"
    assert mistake.line <= MANIFEST_NODES_MAX // 2 + 2


def test_reading_ends_after_many_mistakes(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nonsense costs a search for what was meant for some hundred of its lines only."""
    searched = []
    monkeypatch.setattr(section, "one_of", lambda word, *_a, **_k: searched.append(word) or "hint")
    mistakes = wrong("fleet: a\n" + "".join(f"k{number}: 1\n" for number in range(50_000)))
    assert len(mistakes) == MANIFEST_MISTAKES_MAX
    assert len(searched) == MANIFEST_MISTAKES_COUNTED_MAX + 1


@pytest.mark.parametrize(
    "text",
    [
        "fleet: a\nagents:\n" + "".join(f"  helth-monitor-{n}:\n" for n in range(5_000)),
        "fleet: a\nservices:\n" + "".join(f"  s{n}:\n" for n in range(5_000)),
        "fleet: a\nservices:\n  s: {command: x, memory: 1MB, after: [" + ",".join(f"b{n}" for n in range(5_000)) + "]}",
    ],
)
def test_every_reader_ends_after_many_mistakes(wrong: Wrong, text: str) -> None:
    """The bound holds for unknown agents, empty services and names that nobody has, too."""
    assert len(wrong(text)) == MANIFEST_MISTAKES_MAX


def test_names_compared_for_a_hint_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for what was meant looks at some hundred names of about the same length, however many there are."""
    seen: list[int] = []
    monkeypatch.setattr(section.difflib, "get_close_matches", lambda _w, names, **_k: seen.append(len(names)) or [])
    assert section.near("health", [f"name-{number}" for number in range(10_000)]) == ""
    assert seen == [section.NEAR_NAMES_MAX]


def test_long_values_are_not_parsed(wrong: Wrong) -> None:
    """A value of a megabyte is refused by its length; the message does not repeat it."""
    text = "9" * (MANIFEST_TEXT_CHARACTERS_MAX + 1)
    (mistake,) = wrong(f"fleet: a\nhost: {{memory: {text}GB}}\n")
    assert "characters; a value may have" in mistake.problem


def test_messages_are_short(wrong: Wrong) -> None:
    """A long key is quoted by its ends."""
    (mistake,) = wrong(f"fleet: a\n{'k' * 1000}: 1\n")
    assert len(mistake.problem) < MANIFEST_MESSAGE_CHARACTERS_MAX + 10


def test_long_commands_are_not_split(wrong: Wrong) -> None:
    """Splitting a text like a shell is slow: beyond a bound a list is asked for."""
    mistakes = wrong(
        f"fleet: a\nservices:\n  s: {{command: '{'x ' * MANIFEST_COMMAND_CHARACTERS_MAX}', memory: 1MB}}\n"
    )
    assert "write it as a list" in mistakes[0].hint


def test_many_cpu_sets(wrong: Wrong) -> None:
    """The number of sets has a bound; a core that is named a thousand times is one core."""
    (mistake,) = wrong(
        "fleet: a\ncpu_sets:\n" + "".join(f"  s{n}: {{cores: 0}}\n" for n in range(MANIFEST_CPU_SETS_MAX + 1))
    )
    assert f"these are {MANIFEST_CPU_SETS_MAX + 1}" in mistake.problem


def test_a_core_that_is_named_often(load: Load) -> None:
    """Ranges that overlap are one set of cores."""
    manifest = load("fleet: a\ncpu_sets: {s: {cores: [" + "0-3, 2-5, " * 500 + "]}}\n")
    assert manifest.cpu_sets["s"].cores == (0, 1, 2, 3, 4, 5)


def test_a_long_chain_of_services_is_ordered_step_by_step() -> None:
    """Ten thousand services that wait for each other take one look at each, not one for every step."""
    names = [f"s{number}" for number in range(10_000)]
    after = {name: [names[index - 1]] if index else [] for index, name in enumerate(names)}
    assert layers(names[::-1], after) == [[name] for name in names]


def test_anchors_inside_each_other(wrong: Wrong) -> None:
    """A billion laughs with merge keys: the weight of merged tables is counted as well."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'{{<<: *a{i - 1}, k: *a{i - 1}}}'] * 9)}]" for i in range(1, 9)]
    assert any("unfolds to more than" in mistake.problem for mistake in wrong("\n".join(lines)))


def test_reading_leaves_the_collector_as_it_was(load: Load, wrong: Wrong) -> None:
    """The garbage collector is off while a manifest is read, and on again behind it, also after mistakes."""
    load("fleet: a\n")
    assert gc.isenabled()
    wrong("fleet: A\n")
    assert gc.isenabled()
    gc.disable()
    try:
        load("fleet: a\n")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_parser_is_the_one_in_c() -> None:
    """The wheels that we pin bring libyaml; without it a large manifest takes four times as long."""
    assert document._LOADER.__name__ == "CSafeLoader"


@pytest.mark.parametrize(
    ("text", "line", "column", "hint"),
    [
        ("fleet: a\nhost:\n  \tmemory: 4GB\n", 3, 3, "spaces"),
        ("fleet: a\n\tcpu: 1\n", 2, 1, "spaces"),
        ("fleet: [a\nhost: b\n", 2, 5, "bracket"),
        ('fleet: "a\\q"\n', 1, 10, "backslash"),
        ("services:\n - b\n c: d\n", 3, 2, "items of one list"),
        ("fleet: é: b\n", 1, 9, "quotes"),
    ],
)
def test_the_place_is_the_one_that_a_person_looks_for(
    wrong: Wrong, text: str, line: int, column: int, hint: str
) -> None:
    """Lines and columns count characters, not bytes, and the hint fits what is wrong."""
    (mistake,) = wrong(text)
    assert (mistake.line, mistake.column) == (line, column)
    assert hint in mistake.hint
