"""A crew's facts come from skills, its words from the model, and nothing is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.runtime import UnavailableError

if TYPE_CHECKING:
    from conftest import Broker

ROLES = [{"name": "analyst", "goal": "analyses health and numbers"}, {"name": "writer", "goal": "writes reports"}]
LOOK = {"name": "look", "description": "Look at the health.", "role": "analyst",
        "ask": [{"skill": "health-monitor.report", "with": {"window_s": 60}}]}  # fmt: skip
WRITE = {"name": "write", "description": "Write ${it} down.", "role": "writer"}


@pytest.fixture
def crew(broker: Broker) -> Broker:
    """A broker whose only source of facts is scripted."""
    broker.outcomes["health-monitor.report"] = lambda data: {"verdict": "ok", "window_s": data["window_s"]}
    return broker


def answered(broker: Broker, tasks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Let a crew work."""
    end = broker.ask("crewai", "crew", {"roles": ROLES, "tasks": tasks, **more})
    assert end.error is None, end.error
    found: dict[str, Any] = end.result
    return found


def test_without_a_model_facts_are_listed_and_that_is_said(crew: Broker) -> None:
    """Every step is one of the workflow; the second task sees the first one's outcome; a user's ${…} stays a text."""
    found = answered(crew, [LOOK, WRITE])
    assert (found["complete"], found["prose"]) == (True, "none")
    assert found["tasks"][0]["facts"] == [
        {"skill": "health-monitor.report", "lines": ["verdict: ok", "window_s: 60"], "left_out": 0}
    ]
    assert "there is no language model" in found["notes"][0]
    assert "its context is look" in found["tasks"][1]["text"]
    briefs = [data for name, data in crew.asked if name == "crewai.work"]
    assert briefs[1]["task"]["description"] == "Write ${it} down."
    assert "Facts of `health-monitor.report`" in briefs[1]["context"]["look"]


def test_the_models_words_stay_when_their_numbers_are_there(crew: Broker) -> None:
    """A sentence with a number that no fact has is taken out and named; the others stand before the facts."""
    sentences = ["All is ok in 60 seconds.", "It serves 9000 users.", "There are twelve problems."]
    crew.llm.data, crew.llm.error = {"sentences": sentences}, None
    found = answered(crew, [LOOK])
    assert found["prose"] == "llm"
    assert found["tasks"][0]["text"].startswith("All is ok in 60 seconds.\n\nFacts of")
    assert found["tasks"][0]["removed"] == sentences[1:]
    assert "schema" in crew.llm.asked[0]


@pytest.mark.parametrize("answer", [None, [], {"sentences": 5}, {"sentences": [1, ""]}, "text"])
def test_nonsense_of_the_model_harms_nothing(crew: Broker, answer: Any) -> None:
    """Whatever shape it has, the facts are there."""
    crew.llm.data, crew.llm.error = answer, None
    assert "verdict: ok" in answered(crew, [LOOK])["text"]


def test_a_skill_that_fails_is_named(crew: Broker) -> None:
    """The crew goes on; the result says what is missing and is not complete."""
    crew.outcomes["health-monitor.report"] = {"code": "broken", "message": "no sensors", "status": "failed"}
    found = answered(crew, [LOOK, WRITE])
    assert not found["complete"]
    assert found["tasks"][0]["failed"] == ["health-monitor.report failed: no sensors"]
    assert "Missing: health-monitor.report failed: no sensors." in found["text"]


def test_a_manager_assigns_reviews_and_asks_again(crew: Broker) -> None:
    """By the model where there is one: its choice stands, its no brings one more try with the reason; by words else."""
    free = [{key: value for key, value in LOOK.items() if key != "role"}, {**WRITE, "role": "", "context": ["look"]}]
    found = answered(crew, free, process="hierarchical")
    assert [task["role"] for task in found["tasks"]] == ["analyst", "writer"]
    assert [name for name, _ in crew.asked].count("crewai.work") == 2

    def chat(messages: Any, **options: Any) -> Any:
        wanted = options["schema"]["properties"]
        if "sentences" in wanted:
            crew.llm.data = {"sentences": ["All is ok."]}
        elif "accept" in wanted:
            crew.llm.data = {"accept": "All is ok" not in str(messages) or bool(said), "why": "say more"}
            said.append(1)
        else:
            crew.llm.data = dict.fromkeys(wanted, "writer")
        return type(crew.llm).chat(crew.llm, messages, **options)

    said: list[int] = []
    crew.llm.error, crew.asked[:] = None, []
    crew.llm.chat = chat  # type: ignore[method-assign]
    found = answered(crew, free, process="hierarchical")
    assert [task["role"] for task in found["tasks"]] == ["writer", "writer"]
    again = [data for name, data in crew.asked if name == "crewai.work" and data.get("feedback")]
    assert [data["feedback"] for data in again] == ["say more"]


def test_all_mistakes_of_a_crew_at_once(crew: Broker) -> None:
    """Before anything is asked."""
    tasks = [{**LOOK, "role": "nobody", "context": ["write"]}, {**WRITE, "role": ""}, {**WRITE, "context": ["none"]}]
    end = crew.ask("crewai", "crew", {"roles": [*ROLES, ROLES[0]], "tasks": tasks})
    for words in (
        "two roles are called 'analyst'", "there is no role 'nobody'", "write comes later",
        "write: say whose it is", "two tasks are called 'write'", "there is no task 'none'",
    ):  # fmt: skip
        assert words in str(end.error), words
    assert [name for name, _ in crew.asked] == ["crewai.crew"]


def test_an_unknown_skill_is_told_by_the_workflow(crew: Broker) -> None:
    """With what was meant, before anything is asked."""
    crew.llm.error = UnavailableError("down")
    end = crew.ask("crewai", "crew", {"roles": ROLES, "tasks": [{**LOOK, "ask": [{"skill": "health-monitor.reprt"}]}]})
    assert "did you mean report?" in str(end.error)
    assert not [name for name, _ in crew.asked if name == "crewai.work"]
