"""A pursuit chooses among real skills, remembers what it saw, ends by its budgets, and makes nothing up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import AgentCard
from sutazai.runtime import Answer

if TYPE_CHECKING:
    from conftest import Broker, RecordedFleet

COUNT = {"type": "object", "properties": {"kind": {"enum": ["disks", "users"]}, "n": {"type": "integer", "maximum": 9}},
         "required": ["kind"], "additionalProperties": False}  # fmt: skip
ASKED = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
SKILLS = [
    {"name": "count", "description": "Count the disks or users of the machine.", "input": COUNT},
    {"name": "search", "description": "Search notes about disks.", "input": ASKED},
    {"name": "apply", "description": "Format all disks.", "input": {"type": "object", "properties": {}}},
]


@pytest.fixture
def world(broker: Broker, fleet: RecordedFleet) -> Broker:
    """A fleet with one agent that knows disks."""
    fleet.agent_names = ["autogpt"]
    fleet.extra_agents = [AgentCard("keeper", skills=SKILLS)]
    broker.outcomes["keeper.count"] = lambda data: {"kind": data["kind"], "number": 4}
    broker.outcomes["keeper.search"] = lambda data: {"notes": [f"about {data['query']}"]}
    return broker


def script(world: Broker, *answers: Any) -> None:
    """Let the model give these answers, one after the other; then it finishes."""
    left = list(answers)

    def chat(messages: Any, **options: Any) -> Answer:
        world.llm.asked.append({"messages": messages, **options})
        wanted = options["schema"]["properties"]
        if "sentences" in wanted:
            data: Any = {"sentences": ["There are 4 disks.", "They hold 77 files."]}
        else:
            data = left.pop(0) if left else {"thought": "enough", "action": "finish"}
        return Answer("", data, "scripted", "stop", 50, 10)

    world.llm.error = None
    world.llm.chat = chat  # type: ignore[method-assign]


def pursued(world: Broker, skill: str = "pursue", **given: Any) -> dict[str, Any]:
    """Pursue a goal."""
    given = given if skill == "resume" else {"goal": "How many disks are there?", **given}
    end = world.ask("autogpt", skill, given)
    assert end.error is None, end.error
    found: dict[str, Any] = end.result
    return found


def test_the_model_chooses_and_fills_inside_of_the_schema(world: Broker) -> None:
    """Two rounds and an end; facts with their tasks; the sentence without a fact is taken out."""
    script(
        world,
        {"thought": "count them", "action": "keeper.count"}, {"kind": "disks"},
        {"thought": "read more", "action": "keeper.search"},
    )  # fmt: skip
    found = pursued(world)
    assert (found["ended"], found["planner"], found["prose"]) == ("finished", "llm", "llm")
    assert [(each["action"], each["facts"]) for each in found["steps"]] == [
        ("keeper.count", ["kind: disks", "number: 4"]),
        ("keeper.search", ["notes[0]: about How many disks are there?"]),
    ]
    assert found["answer"].startswith("There are 4 disks.\n\nFacts of `keeper.count` (task t_")
    assert found["removed"] == ["They hold 77 files."]
    assert found["tokens"] == 60 * len(world.llm.asked)
    actions = world.llm.asked[0]["schema"]["properties"]["action"]["enum"]
    assert actions == ["keeper.count", "keeper.search", "finish"], "what changes something is not among them"


def test_without_a_model_words_decide(world: Broker) -> None:
    """What nothing is known about is not asked, and why there are no words is said."""
    found = pursued(world)
    assert (found["planner"], found["prose"], found["ended"]) == ("words", "none", "finished")
    assert [each["action"] for each in found["steps"]] == ["keeper.search"]
    assert found["notes"][0].startswith("without the language model: ")


@pytest.mark.parametrize(
    ("budget", "ended", "steps"),
    [({"steps": 1}, "out-of-steps", 1), ({"tokens": 100, "steps": 9}, "out-of-tokens", 1)],
)
def test_budgets_end_it(world: Broker, budget: dict[str, int], ended: str, steps: int) -> None:
    """The first one that is used up; what was seen is told."""
    script(
        world,
        {"thought": "", "action": "keeper.count"}, {"kind": "disks"},
        {"thought": "", "action": "keeper.count"}, {"kind": "users"},
    )  # fmt: skip
    found = pursued(world, budget=budget)
    assert (found["ended"], len(found["steps"])) == (ended, steps)
    assert "number: 4" in found["answer"]


def test_the_same_is_not_asked_twice_and_nonsense_is_not_asked(world: Broker) -> None:
    """A repeated action, an argument outside of the schema, an action that does not exist: words decide."""
    script(
        world,
        {"thought": "", "action": "keeper.count"}, {"kind": "moons"},
        {"thought": "", "action": "keeper.search"},
        {"thought": "", "action": "keeper.fly"},
    )  # fmt: skip
    found = pursued(world)
    assert [each["action"] for each in found["steps"]] == ["keeper.search"]
    assert any("keeper.count was not asked" in note for note in found["notes"])
    assert any("not asked twice" in note for note in found["notes"])


def test_a_failure_is_remembered(world: Broker) -> None:
    """The pursuit goes on with what else there is."""
    world.outcomes["keeper.search"] = {"code": "x", "message": "no notes", "status": "failed"}
    found = pursued(world)
    assert found["steps"][0]["error"] == "no notes"
    assert "`keeper.search` failed: no notes" in found["answer"]


def test_it_is_gone_on_with(world: Broker) -> None:
    """A later pursuit has the memory of the earlier one, asks nothing of it again, and has a budget of its own."""
    script(world, {"thought": "", "action": "keeper.count"}, {"kind": "disks"})
    first = pursued(world, budget={"steps": 1})
    script(world, {"thought": "", "action": "keeper.count"}, {"kind": "users"})
    second = pursued(world, "resume", run=first["run"])
    assert second["resumed_from"] == first["run"]
    assert [each["arguments"] for each in second["steps"]] == [{"kind": "disks"}, {"kind": "users"}]
    assert [name for name, _ in world.asked].count("keeper.count") == 2
    shown = world.ask("autogpt", "memory", {"run": second["run"]}).result
    assert [each["number"] for each in shown["entries"]] == [0, 1]
    end = world.ask("autogpt", "resume", {"run": "t_none"})
    assert "is no pursuit" in str(end.error)


def test_what_is_allowed_by_name_may_be_chosen(world: Broker) -> None:
    """And nothing else."""
    script(world, {"thought": "", "action": "keeper.apply"})
    world.outcomes["keeper.apply"] = lambda data: {"formatted": 4}
    found = pursued(world, allowed=["keeper.apply"])
    assert [each["action"] for each in found["steps"]] == ["keeper.apply"]
