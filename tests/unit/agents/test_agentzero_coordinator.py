"""agentzero-coordinator reaches its goal with a good model, a bad one and none, and when those it asks are dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.agentzero_coordinator import arguments, catalogue, planning
from sutazai.agents.agentzero_coordinator.models import CatalogueAgent
from sutazai.agents.incident_timeline_writer import trace
from sutazai.client import AgentCard
from sutazai.runtime import SkillError, UnavailableError

if TYPE_CHECKING:
    from conftest import Broker, ScriptedLlm

AGENT = "agentzero-coordinator"
GOAL = "Find out what is unhealthy, why, and write the incident report"
FIVE = [
    "health-monitor.report",
    "ram-hardware-optimizer.analyse",
    "system-performance-forecaster.exhaustion",
    "incident-timeline-writer.timeline",
    "incident-timeline-writer.draft",
]
DEAD = {"code": "skill-failed", "message": "it was killed 4 times", "status": "dead"}


def achieve(broker: Broker, **more: Any) -> dict[str, Any]:
    """Run the goal to its end."""
    result: dict[str, Any] = broker.ask(AGENT, "achieve", {"goal": GOAL, **more}).require()
    return result


def steps(outcome: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Who was asked, who chose it, how it ended."""
    return [(step["skill"], step["chosen_by"], step["status"]) for step in outcome["trace"]["steps"]]


def test_without_a_model_the_goal_is_reached_over_four_agents(broker: Broker) -> None:
    """The report is complete and traceable, names the root cause, and the trace says that no model planned."""
    outcome = achieve(broker)
    assert outcome["complete"] is True
    assert outcome["subject"] == "leaky-shop"
    assert steps(outcome) == [(skill, "no-llm", "succeeded") for skill in FIVE]
    assert len(set(outcome["trace"]["tasks"])) == 5
    assert "The root cause is a memory leak in `leaky-shop`: it grows by 1.75 MB/s [m1]" in outcome["report"]
    values = {source["id"]: source["values"] for source in outcome["sources"]}
    verdict = trace.check(outcome["report"], values)
    assert verdict.problems == []
    assert verdict.numbers == outcome["numbers"] > 20
    assert any("without the language model" in note for note in outcome["trace"]["notes"])


def test_the_work_goes_in_stages_each_a_turn(broker: Broker) -> None:
    """Detection first; then three agents with the subject that it found; then the writer; four turns in all."""
    outcome = achieve(broker)
    assert [turn for turn in broker.turns if turn.startswith(AGENT)] == [
        f"{AGENT}.achieve/{step}" for step in ("", "investigate", "write_report", "finish")
    ]
    inputs = dict(broker.asked)
    for skill in FIVE[1:4]:
        assert inputs[skill]["subject"] == "leaky-shop"
    assert inputs["incident-timeline-writer.draft"]["title"] == "Incident report: leaky-shop"
    assert len(inputs["incident-timeline-writer.draft"]["by"]) == 4
    assert outcome["trace"]["turns"] == 4


def test_the_model_chooses_and_the_verifier_completes(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """A model that names two of five steps: the trace says which were its own and which the verifier added."""
    broker.llm = scripted(data={"steps": [FIVE[3], FIVE[0], FIVE[0]]})
    outcome = achieve(broker)
    assert outcome["complete"] is True
    assert outcome["trace"]["planner"] == "llm"
    chosen = {skill: by for skill, by, _ in steps(outcome)}
    assert chosen == {FIVE[0]: "llm", FIVE[3]: "llm", FIVE[1]: "verifier", FIVE[2]: "verifier", FIVE[4]: "verifier"}


def test_the_model_gets_an_enumeration_of_real_skills_with_bounds(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """The schema lists existing skills of others only, and the array is bounded."""
    broker.llm = scripted(data={"steps": [FIVE[0]]})
    achieve(broker)
    schema = broker.llm.asked[0]["schema"]
    choices = schema["properties"]["steps"]["items"]["enum"]
    assert set(FIVE) <= set(choices)
    assert not [name for name in choices if name.startswith(AGENT)]
    assert len(choices) <= planning.CANDIDATES_MAX
    assert schema["properties"]["steps"]["maxItems"] <= planning.STEPS_OF_MODEL_MAX


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        "text",
        [],
        {"steps": "x"},
        {"steps": []},
        {"steps": [None, 3, {"skill": FIVE[0]}, ["x"]]},
        {"steps": ["rm.everything", "x" * 10_000]},
        {"steps": [f"{AGENT}.achieve"]},
    ],
    ids=["null", "text", "list", "no list", "empty", "wrong types", "unknown skill", "itself"],
)
def test_garbage_of_the_model_changes_nothing(broker: Broker, scripted: type[ScriptedLlm], garbage: Any) -> None:
    """Whatever the model answers, only real skills are asked and the goal is reached without it, and that is said."""
    broker.llm = scripted(data=garbage, text="The incident lasted 99 hours in all.")
    outcome = achieve(broker)
    assert outcome["complete"] is True
    assert [skill for skill, _, _ in steps(outcome)] == FIVE
    assert outcome["trace"]["planner"] == "no-llm"
    assert any("language model" in note for note in outcome["trace"]["notes"])
    assert "99 hours" not in outcome["report"]


def test_one_unknown_skill_among_good_ones_is_left_out(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """The valid part of an answer is used, the rest is named."""
    broker.llm = scripted(data={"steps": ["no.such", FIVE[0]]})
    outcome = achieve(broker)
    assert outcome["trace"]["planner"] == "llm"
    assert any("'no.such'" in note for note in outcome["trace"]["notes"])


def test_of_two_choices_for_one_need_the_better_suited_is_kept(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """The model names both forecasts, the general one first: the one that knows the limit is asked, once."""
    broker.llm = scripted(data={"steps": ["system-performance-forecaster.forecast", FIVE[2], FIVE[0]]})
    outcome = achieve(broker)
    assert (FIVE[2], "llm", "succeeded") in steps(outcome)
    assert "system-performance-forecaster.forecast" not in dict(broker.asked)
    assert any("is left out" in note for note in outcome["trace"]["notes"])


@pytest.mark.parametrize("error", [UnavailableError("down"), SkillError("cut off")], ids=["down", "cut off"])
def test_a_model_that_fails_is_no_failure(broker: Broker, scripted: type[ScriptedLlm], error: Exception) -> None:
    """The model's error is a note in the trace."""
    broker.llm = scripted(error=error)
    assert achieve(broker)["complete"] is True


@pytest.mark.parametrize("dead", FIVE[:2] + FIVE[3:4])
def test_a_dead_child_is_named_as_missing_evidence(broker: Broker, dead: str) -> None:
    """No other skill gives it: the report is written all the same, says what is missing, and is not complete."""
    broker.outcomes[dead] = DEAD
    outcome = achieve(broker, subject="leaky-shop")
    assert outcome["complete"] is False
    assert any(dead in item for item in outcome["missing"])
    assert "## Missing evidence" in outcome["report"]
    assert f"`{dead}` ended as dead: `it was killed 4 times` [m" in outcome["report"]
    assert trace.check(outcome["report"]).problems == []


def test_a_dead_child_is_replaced_by_another_suited_skill(broker: Broker) -> None:
    """The forecaster has a second skill that forecasts: it is asked in the place of the dead one, and that is said."""
    broker.outcomes[FIVE[2]] = DEAD
    broker.outcomes["system-performance-forecaster.forecast"] = lambda data: {
        "findings": [{"section": "forecast", "subject": "leaky-shop", "text": "It goes on.", "measures": {}}]
    }
    outcome = achieve(broker)
    assert outcome["complete"] is True
    assert (FIVE[2], "no-llm", "dead") in steps(outcome)
    assert ("system-performance-forecaster.forecast", "replan", "succeeded") in steps(outcome)
    assert dict(broker.asked)["system-performance-forecaster.forecast"]["labels"] == {"process": "leaky-shop"}
    own = [turn for turn in broker.turns if turn.startswith(AGENT)]
    assert len(own) == len(set(own)) == 5


def test_a_dead_writer_leaves_the_findings(broker: Broker) -> None:
    """Without a writer there is no report, and the outcome holds the findings in its place."""
    broker.outcomes[FIVE[4]] = DEAD
    outcome = achieve(broker)
    assert (outcome["complete"], outcome["report"]) == (False, "")
    assert any(item["section"] == "cause" for item in outcome["findings"])


def test_all_children_dead_ends(broker: Broker) -> None:
    """The goal ends, within its turns, with everything named as missing."""
    for skill in (*FIVE, "system-performance-forecaster.forecast"):
        broker.outcomes[skill] = DEAD
    outcome = achieve(broker)
    assert outcome["complete"] is False
    assert len(outcome["missing"]) == 5
    assert outcome["trace"]["turns"] <= 7


def test_children_that_answer_nonsense_do_no_harm(broker: Broker) -> None:
    """A result that is no object, findings of a wrong form: left out and noted, the rest goes on."""
    broker.outcomes[FIVE[0]] = lambda data: {"worst": 7, "findings": [{"text": 3}, "x"], "processes": "none"}
    broker.outcomes[FIVE[3]] = lambda data: ["not", "an", "object"]
    outcome = achieve(broker)
    assert outcome["report"]
    assert any("wrong form" in note for note in outcome["trace"]["notes"])
    assert any("no object" in note for note in outcome["trace"]["notes"])


def test_a_fleet_without_a_forecaster_says_so(broker: Broker) -> None:
    """A need that no skill covers is uncovered in the trace and missing in the report."""
    broker.fleet.agent_names.remove("system-performance-forecaster")
    outcome = achieve(broker)
    assert outcome["trace"]["uncovered"] == ["forecast"]
    assert "no skill of this fleet gives it" in outcome["report"]
    assert outcome["complete"] is False


def test_a_skill_that_cannot_be_filled_is_never_asked(broker: Broker) -> None:
    """A required parameter that nothing is known about: the other suited skill is taken, and nothing is invented."""
    schema = {"properties": {"secret_key": {"type": "string"}}, "required": ["secret_key"]}
    odd = {"name": "forecast", "description": "Forecast when memory is exhausted, meets its limit.", "input": schema,
           "output": {"properties": {"left": {}}}}  # fmt: skip
    broker.fleet.extra_agents = [AgentCard("a-forecaster", skills=[odd])]
    outcome = achieve(broker)
    assert outcome["complete"] is True
    assert "a-forecaster.forecast" not in dict(broker.asked)


def test_the_budget_of_steps_holds(broker: Broker) -> None:
    """With two steps allowed, two tasks are asked."""
    outcome = achieve(broker, max_steps=2)
    assert len(outcome["trace"]["tasks"]) == 2
    assert outcome["complete"] is False


def test_control_being_away_is_tried_again_later(broker: Broker) -> None:
    """Without the list of skills the turn fails as retryable; nothing is planned from memory."""
    broker.fleet.fault = UnavailableError("control does not answer")
    answer = broker.ask(AGENT, "achieve", {"goal": GOAL})
    assert answer.error is not None
    assert (answer.error["code"], answer.error["retryable"]) == ("unavailable", True)


def test_plan_shows_and_asks_nobody(broker: Broker) -> None:
    """`plan` gives the steps over a catalogue that is handed in; no other agent is asked."""
    given = [card_of(name) for name in broker.fleet.agents()]
    broker.fleet.fault = AssertionError("the fleet was asked")
    result = broker.ask(AGENT, "plan", {"goal": GOAL, "catalogue_given": given, "use_llm": False}).require()
    assert [step["skill"] for step in result["steps"]] == FIVE
    assert len(broker.asked) == 1


def card_of(agent: AgentCard) -> dict[str, Any]:
    """An agent as the skill `plan` takes it."""
    return {"name": agent.name, "skills": agent.skills}


@pytest.mark.parametrize(
    ("goal", "needs"),
    [
        (GOAL, ["detect", "diagnose-memory", "forecast", "timeline", "report"]),
        ("Is the fleet healthy?", ["detect", "report"]),
        ("When will memory be exhausted?", ["detect", "diagnose-memory", "forecast", "report"]),
        ("hello there", ["detect", "report"]),
    ],
)
def test_needs_come_from_the_goals_words(goal: str, needs: list[str]) -> None:
    """A goal is read word by word; every goal needs a look and a report."""
    assert catalogue.needs(goal) == needs


def test_retrieval_puts_the_fitting_skill_first() -> None:
    """BM25 over names and descriptions."""
    agents = [
        CatalogueAgent.model_validate({"name": "a", "skills": [{"name": "x", "description": "paint a picture"}]}),
        CatalogueAgent.model_validate({"name": "b", "skills": [{"name": "y", "description": "find memory leaks"}]}),
    ]
    cards = catalogue.cards(agents, without="")
    assert [card.id for card in catalogue.rank("who leaks memory", cards)] == ["b.y", "a.x"]
    assert catalogue.rank("anything", []) == []


def test_arguments_come_from_facts_and_stay_in_bounds() -> None:
    """Known names are filled and bounded by the schema; unknown required ones are named; wrong types are not filled."""
    schema = {
        "properties": {
            "process": {"type": "string", "maxLength": 5},
            "window_s": {"type": "integer", "maximum": 60},
            "goal": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "subject": {"type": "integer"},
            "key": {"type": "string"},
        },
        "required": ["key"],
    }
    filled, lacking = arguments.derive(schema, arguments.Known(goal="g", subject="leaky-shop", window_s=300))
    assert filled == {"process": "leaky", "window_s": 60, "goal": "g"}
    assert lacking == ["key"]


def own(name: str, status: str, parent: str | None = None, **more: Any) -> dict[str, Any]:
    """A task as the broker shows it to its agent."""
    agent, _, skill = name.partition(".")
    return {
        "id": f"t_{skill}", "agent": agent, "skill": skill, "status": status, "parent": parent, "attempt": 1,
        "created_wall_ms": 1_000, "finished_wall_ms": 4_500 if status in {"succeeded", "failed"} else None, **more,
    }  # fmt: skip


TREE = [
    own("agentzero-coordinator.achieve", "waiting", step="write_report"),
    own("health-monitor.report", "succeeded", "t_achieve"),
    own("ram-hardware-optimizer.analyse", "failed", "t_achieve", error={"code": "oom", "message": "too large"}),
    own("incident-timeline-writer.draft", "queued", "t_achieve", why="no room", progress={"text": "", "fraction": 0}),
]


def test_where_a_goal_stands(broker: Broker) -> None:
    """Counts, the stage, what it waits for and why, and each failure are read off the tasks."""
    asked: list[dict[str, Any]] = []

    def answer(fields: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(fields)
        return [TREE[0], own("agentzero-coordinator.status", "leased")] if fields["do"] == "list" else TREE

    broker.on_own = answer
    given = broker.ask("agentzero-coordinator", "status", {"goal_id": "t_achieve"}).result
    (goal,) = given["goals"]
    assert (given["open"], goal["status"], goal["stage"]) == (1, "waiting", "write_report")
    assert (goal["done"], goal["open"], goal["failed"]) == (2, 1, 1)
    assert goal["waits_for"] == ["incident-timeline-writer.draft"]
    assert [entry["why"] for entry in goal["delegated"]] == ["", "", "no room"]
    assert goal["delegated"][1]["error"] == "oom: too large"
    assert goal["elapsed_s"] > 4.5, "it still runs"
    everything = broker.ask("agentzero-coordinator", "status", {}).result
    assert [each["goal_id"] for each in everything["goals"]] == ["t_achieve"], "asking is no goal"
    assert asked[0] == {"do": "tree", "of": "t_achieve"}


def test_a_goal_is_called_off(broker: Broker) -> None:
    """What was open is cancelled, what had ended is named apart; a task that is no goal is refused untouched."""
    asked: list[dict[str, Any]] = []

    def answer(fields: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(fields)
        if fields["of"] == "t_plan":
            return [own("agentzero-coordinator.plan", "leased")]
        if fields["do"] == "tree":
            return TREE
        return [{**task, "status": "cancelled"} if task["status"] in {"waiting", "queued"} else task for task in TREE]

    broker.on_own = answer
    given = broker.ask("agentzero-coordinator", "cancel", {"goal_id": "t_achieve", "reason": "enough"}).result
    assert given["status"] == "cancelled"
    assert [each["task"] for each in given["cancelled"]] == ["t_achieve", "t_draft"]
    assert [each["task"] for each in given["finished_before"]] == ["t_report", "t_analyse"]
    assert asked[-1] == {"do": "cancel", "of": "t_achieve", "reason": "enough"}
    refused = broker.ask("agentzero-coordinator", "cancel", {"goal_id": "t_plan"})
    assert refused.error is not None
    assert "is no goal" in refused.error["message"]
    assert all(fields["do"] == "tree" for fields in asked[2:])
