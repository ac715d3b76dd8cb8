"""The condition registry: edges, times, and roots before symptoms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sutazai.errors import InternalError
from sutazai.telemetry.conditions import CONDITIONS_ACTIVE_MAX, TEXT_CHARACTERS_MAX, ConditionSet
from sutazai.telemetry.kinds import KINDS, SEVERITIES


def test_raising_again_keeps_the_beginning_and_renews_the_text() -> None:
    """A condition begins once; later words replace earlier ones."""
    conditions = ConditionSet()
    assert conditions.raise_("Unhealthy", "shop", "3 failures", 1_000) is True
    assert conditions.raise_("Unhealthy", "shop", "9 failures", 9_000) is False
    held = conditions.get("Unhealthy", "shop")
    assert held is not None
    assert (held.since_wall_ms, held.text) == (1_000, "9 failures")


def test_clearing_tells_whether_it_held() -> None:
    """Clearing what does not hold is harmless and said."""
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 1)
    assert conditions.clear("Unhealthy", "shop") is True
    assert conditions.clear("Unhealthy", "shop") is False
    assert conditions.active() == []


def test_an_empty_text_takes_the_kinds_own_words() -> None:
    """A raiser without numbers still gives a sentence with the subject in it."""
    conditions = ConditionSet()
    conditions.raise_("CrashLoop", "shop", "", 1)
    assert conditions.active()[0].text == "shop keeps crashing"


@pytest.mark.parametrize("act", ["raise_", "clear"])
def test_an_unknown_kind_is_a_broken_invariant(act: str) -> None:
    """A misspelt kind stops the program instead of being kept silently."""
    conditions = ConditionSet()
    arguments = ("Misspelt", "shop", "", 1) if act == "raise_" else ("Misspelt", "shop")
    with pytest.raises(InternalError, match="Misspelt"):
        getattr(conditions, act)(*arguments)


def test_the_root_is_shown_and_its_consequences_are_not() -> None:
    """Memory pressure explains the crash loop of its process, and that the failing check; others stand alone."""
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 3)
    conditions.raise_("CrashLoop", "shop", "", 2)
    conditions.raise_("MemoryPressure", "shop", "", 1)
    conditions.raise_("Unhealthy", "other", "", 4)
    assert [condition.key for condition in conditions.roots()] == ["MemoryPressure/shop", "Unhealthy/other"]
    crash = conditions.get("CrashLoop", "shop")
    assert crash is not None
    assert [cause.key for cause in conditions.causes(crash)] == ["MemoryPressure/shop"]


def test_a_cause_may_have_another_subject_or_any() -> None:
    """``Kind/subject`` and ``Kind/*`` reach across subjects."""
    conditions = ConditionSet()
    conditions.raise_("LlmUnavailable", "llm", "", 3)
    conditions.raise_("QueueFull", "coordinator", "", 4)
    conditions.raise_("CrashLoop", "llm", "", 2)
    assert [condition.key for condition in conditions.roots()] == ["CrashLoop/llm"]


def test_when_the_cause_clears_the_symptom_becomes_the_root() -> None:
    """What is left is shown."""
    conditions = ConditionSet()
    conditions.raise_("MemoryPressure", "shop", "", 1)
    conditions.raise_("Unhealthy", "shop", "", 2)
    conditions.clear("MemoryPressure", "shop")
    assert [condition.key for condition in conditions.roots()] == ["Unhealthy/shop"]


def test_a_circle_of_named_causes_shows_its_oldest() -> None:
    """Raisers that blame each other hide nothing."""
    conditions = ConditionSet()
    conditions.raise_("NotReady", "a", "", 5, because=("NotReady/b",))
    conditions.raise_("NotReady", "b", "", 4, because=("NotReady/a",))
    assert [condition.key for condition in conditions.roots()] == ["NotReady/b"]


def test_the_most_severe_comes_first() -> None:
    """Severity, then age."""
    conditions = ConditionSet()
    conditions.raise_("ResourceExhausted", "a", "", 1)
    conditions.raise_("Unhealthy", "b", "", 2)
    conditions.raise_("PortTaken", "c", "", 3)
    assert [condition.name for condition in conditions.active()] == ["PortTaken", "Unhealthy", "ResourceExhausted"]


def test_json_round_trip_keeps_the_set() -> None:
    """What one process writes another reads, causes included."""
    conditions = ConditionSet()
    conditions.raise_("MemoryPressure", "shop", "90 %", 1)
    conditions.raise_("Unhealthy", "shop", "", 2)
    conditions.raise_("NotReady", "edge", "", 3, because=("Unhealthy/shop",))
    again = ConditionSet.from_json(conditions.to_json())
    assert again.to_json() == conditions.to_json()
    entry = next(item for item in again.to_json() if item["name"] == "Unhealthy")
    assert entry["depends_on"] == ["MemoryPressure/shop"]
    assert entry["root"] is False
    assert "shop" in entry["fix"]


@pytest.mark.parametrize(
    "entry", [{}, {"name": "Unhealthy"}, {"name": "New", "subject": "a", "text": "", "since_wall_ms": 1}]
)
def test_a_damaged_entry_is_refused(entry: dict[str, object]) -> None:
    """Half an entry or an unknown kind is not taken."""
    with pytest.raises(InternalError):
        ConditionSet.from_json([entry])


def test_the_set_and_its_texts_are_bounded() -> None:
    """A flood neither grows the set nor a text without end."""
    conditions = ConditionSet()
    for number in range(CONDITIONS_ACTIVE_MAX + 10):
        conditions.raise_("Unhealthy", f"s{number}", "x" * 9_999, number)
    assert len(conditions.active()) == CONDITIONS_ACTIVE_MAX
    assert len(conditions.active()[0].text) == TEXT_CHARACTERS_MAX


def test_a_subject_that_is_gone_takes_its_conditions_along() -> None:
    """A removed process leaves nothing behind."""
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 1)
    conditions.raise_("CrashLoop", "shop", "", 1)
    conditions.raise_("Unhealthy", "other", "", 1)
    assert {condition.name for condition in conditions.clear_subject("shop")} == {"Unhealthy", "CrashLoop"}
    assert [condition.subject for condition in conditions.active()] == ["other"]


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(["a", "host", "llm", "broker"])), max_size=40)
)
def test_every_active_condition_is_a_root_or_follows_from_one(raised: list[tuple[str, str]]) -> None:
    """Nothing is hidden without something shown that leads to it."""
    conditions = ConditionSet()
    for at, (name, subject) in enumerate(raised):
        conditions.raise_(name, subject, "", at)
    shown = {condition.key for condition in conditions.roots()}
    for condition in conditions.active():
        front, seen = [condition], {condition.key}
        while front and not shown & seen:
            front = [cause for item in front for cause in conditions.causes(item) if cause.key not in seen]
            seen |= {item.key for item in front}
        assert shown & seen


def test_each_kind_says_what_it_means_and_what_to_do() -> None:
    """No kind without words for a person."""
    for kind in KINDS.values():
        assert kind.severity in SEVERITIES
        assert kind.summary.format(subject="x")
        assert kind.fix.format(subject="x")
        assert kind.meaning.endswith(".")
