"""What a model says stands only when its numbers are there and nothing contradicts it."""

from __future__ import annotations

from typing import Any

import pytest

from sutazai.runtime.grounding import grounded, lines_of, sentences_of


def test_facts_are_cut_to_lines() -> None:
    """Each value with its path; what does not fit is counted."""
    found, left_out = lines_of({"a": [{"b": 1}, {"b": None}], "c": "text", "d": {}}, 3)
    assert (found, left_out) == (["a[0].b: 1", "a[1].b: null", "c: text"], 1)


def test_invented_numbers_do_not_stand() -> None:
    """Digits and words; those of the material do."""
    kept, removed = grounded(["It has 4 disks.", "It has 5.", "There are twelve.", "All is well."], "number: 4")
    assert (kept, removed) == (["It has 4 disks.", "All is well."], ["It has 5.", "There are twelve."])


def test_a_contradiction_does_not_stand() -> None:
    """Of a claim and its denial neither; a doubled denial is a claim; the same twice is said once."""
    said = ["The fleet is healthy.", "The fleet is not unhealthy.", "The shop is unhealthy.", "The shop isn't healthy."]
    assert grounded(said, "") == (["The fleet is healthy.", "The shop is unhealthy."], [])
    said = ["The fleet is healthy.", "Work waits.", "The fleet is not healthy.", "The fleet is unhealthy."]
    assert grounded(said, "") == (["Work waits."], [said[0], said[2], said[3]])


@pytest.mark.parametrize("answer", [None, [], "x", {"sentences": 1}, {"sentences": [1, " "]}])
def test_nonsense_is_no_sentence(answer: Any) -> None:
    """Whatever shape it has."""
    assert sentences_of(answer, 5) == []
