"""task-assignment-coordinator ranks with reasons and assigns a whole batch better than greed, within capacities."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import Status
from sutazai.errors import UnavailableError

if TYPE_CHECKING:
    from conftest import Broker, ScriptedLlm

AGENT = "task-assignment-coordinator"


def worker(name: str, text: str, **more: Any) -> dict[str, Any]:
    """A recorded agent with one skill."""
    return {"name": name, "skills": [{"name": name, "description": text}], **more}


def test_the_fleets_own_agents_are_ranked(broker: Broker) -> None:
    """On the real descriptions and schemas each question finds its agent, and each number has its source."""
    for task, agent in (
        ("Which process leaks memory?", "ram-hardware-optimizer"),
        ("Forecast when the memory will be exhausted", "system-performance-forecaster"),
        ("Write a draft of the post-mortem report with a time line", "incident-timeline-writer"),
        ("What is unhealthy and why?", "health-monitor"),
    ):
        result = broker.ask(AGENT, "match", {"task": task}).require()
        first = result["candidates"][0]
        assert first["agent"] == agent, task
        parts = [first[part] for part in ("similarity", "availability", "success")]
        assert first["score"] == pytest.approx(sum(part["adds"] for part in parts), abs=1e-3)
        assert all(part["value"]["source"] for part in parts)
    assert result["method"]["name"] == "tf-idf"
    assert any("not known" in note for note in result["notes"])  # the recorded fleet's broker is silent


def test_load_and_record_come_from_the_live_fleet(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queue depth by instances and the outcomes of tasks stand in the parts, with the broker's source."""
    facts = {
        "source": "status:broker/broker@1", "started_wall_ms": 5,
        "queues": {"ram-hardware-optimizer": {"queued": 2, "leased": 1}},
        "outcomes": {"ram-hardware-optimizer": {"succeeded": 7, "dead": 1, "failed": 50}},
    }  # fmt: skip
    monkeypatch.setattr(broker.fleet, "status", lambda: Status.parse({"fleet": "t", "broker": facts}))
    found = broker.ask(AGENT, "match", {"task": "Which process leaks memory?"}).require()["candidates"][0]
    assert found["availability"]["value"] == {
        "value": 0.25, "unit": "ratio",
        "source": "1 / (1 + open tasks / instances), status:broker/broker@1 queues.ram-hardware-optimizer",
    }  # fmt: skip
    assert found["success"]["value"]["value"] == 0.8  # a caller's mistakes (failed) are not the agent's
    assert "7 of 8 tasks succeeded" in found["reason"]


def test_a_silent_fleet_is_said_or_unavailable(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without load the match goes on and says so; without the catalogue there is nothing to match."""

    def away() -> Status:
        raise UnavailableError("sutazaid is away")

    monkeypatch.setattr(broker.fleet, "status", away)
    result = broker.ask(AGENT, "match", {"task": "Which process leaks memory?"}).require()
    assert any("sutazaid is away" in note for note in result["notes"])
    broker.fleet.fault = UnavailableError("control is away")
    error = broker.ask(AGENT, "match", {"task": "anything at all"}).error
    assert error is not None
    assert error["code"] == "unavailable"


def test_embeddings_where_there_are_some(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """Vectors decide when the model's server gives them; by name they are required; without them words decide."""
    agents = [worker("baker", "Bake bread."), worker("smith", "Forge iron.")]
    data: dict[str, Any] = {"task": "make a loaf", "agents": agents}
    broker.llm = scripted()
    broker.llm.vectors = {"baker": [1.0, 0.0], "smith": [0.0, 1.0], "loaf": [0.8, 0.6]}
    found = broker.ask(AGENT, "match", data).require()
    assert found["method"]["name"] == "embeddings"
    assert [(one["agent"], one["similarity"]["value"]["value"]) for one in found["candidates"]] == [
        ("baker", 0.8), ("smith", 0.6),
    ]  # fmt: skip
    broker.llm = scripted(error=UnavailableError("the embedding model is not here"))
    fallen_back = broker.ask(AGENT, "match", data).require()
    assert (fallen_back["status"], fallen_back["method"]["name"]) == ("no-match", "tf-idf")
    assert "the embedding model is not here" in fallen_back["method"]["why"]
    error = broker.ask(AGENT, "match", {**data, "options": {"method": "embeddings"}}).error
    assert error is not None
    assert error["code"] == "unavailable"


def test_nothing_fits(broker: Broker) -> None:
    """A task that no skill mentions has no candidate."""
    result = broker.ask(AGENT, "match", {"task": "xylophone quartet", "agents": [worker("a", "Bake bread.")]}).require()
    assert (result["status"], result["candidates"]) == ("no-match", [])


def test_equal_skills_are_told_apart_by_load_and_record(broker: Broker) -> None:
    """Of three agents with one text the idle and the reliable come first."""
    agents = [
        worker("busy", "Bake bread.", leased=3),
        worker("unlucky", "Bake bread.", succeeded=1, dead=9),
        worker("good", "Bake bread.", succeeded=9),
    ]
    for one in agents:
        one["skills"][0]["name"] = "bake"
    result = broker.ask(AGENT, "match", {"task": "bake bread", "agents": agents}).require()
    assert [one["agent"] for one in result["candidates"]] == ["good", "unlucky", "busy"]
    assert result["candidates"][0]["score"] > result["candidates"][1]["score"]


WORDS = ["bread", "memory", "disk", "forecast", "poem", "table", "leak", "report"]


@pytest.mark.parametrize("seed", range(12))
def test_the_assignment_is_the_best_of_all(broker: Broker, seed: int) -> None:
    """Against every possible assignment of small random batches: as many tasks, and no larger sum."""
    chance = random.Random(seed)  # noqa: S311 batches for a test
    agents = [
        worker(f"a{place}", f"{' '.join(chance.sample(WORDS, 3))}.", instances_max=chance.randint(1, 2))
        for place in range(3)
    ]
    tasks = [{"id": str(place), "text": " ".join(chance.sample(WORDS, 2))} for place in range(4)]
    found = broker.ask(AGENT, "assign", {"tasks": tasks, "agents": agents}).require()
    scores = {}
    for task in tasks:
        data = {"task": task["text"], "agents": agents, "limit": 50}
        for one in broker.ask(AGENT, "match", data).require()["candidates"]:
            scores[task["id"], one["agent"]] = one["score"]
    room = {one["name"]: one["instances_max"] for one in agents}
    best = (0, 0.0)
    for choice in itertools.product([None, *room], repeat=len(tasks)):
        pairs = [(task["id"], agent) for task, agent in zip(tasks, choice, strict=True) if agent is not None]
        if all(pair in scores for pair in pairs) and all(choice.count(name) <= size for name, size in room.items()):
            best = max(best, (len(pairs), round(sum(scores[pair] for pair in pairs), 4)))
    assert len(found["placed"]) == best[0]
    assert found["total"] == pytest.approx(best[1], abs=1e-3)
    assert len(found["placed"]) + len(found["unplaced"]) == len(tasks)
    assert all(entry["used"] <= entry["slots"] for entry in found["capacities"])
    assert (found["greedy_placed"], found["greedy_total"]) <= (len(found["placed"]), found["total"] + 1e-3)


def test_capacity_is_instances_less_open_tasks(broker: Broker) -> None:
    """Rounds multiply what an instance takes; open tasks take it away; what is left over is told with names."""
    agents = [worker("bread", "Bake bread.", instances_max=2, queued=1)]
    tasks = [{"id": str(place), "text": "bake bread", "value": 1 + place} for place in range(4)]
    found = broker.ask(AGENT, "assign", {"tasks": tasks, "agents": agents}).require()
    assert [one["task"] for one in found["placed"]] == ["3"]  # the one slot goes to the most valuable
    assert {one["reason"] for one in found["unplaced"]} == {"no-capacity"}
    assert "bread (1 of 1 slots used, 1 tasks open)" in found["unplaced"][0]["why"]
    more = broker.ask(AGENT, "assign", {"tasks": tasks, "agents": agents, "rounds": 3}).require()
    assert len(more["placed"]) == 4


@pytest.mark.parametrize(
    ("skill", "data", "code", "text"),
    [
        ("match", {"task": "x"}, "invalid-input", "task"),
        (
            "match",
            {"task": "bake", "options": {"weights": {"similarity": 0, "availability": 0, "success": 0}}},
            "non-retryable",
            "0",
        ),
        ("match", {"task": "bake", "options": {"weights": {"luck": 1}}}, "invalid-input", "luck"),
        ("match", {"task": "bake", "agents": [worker("a", "x"), worker("a", "y")]}, "non-retryable", "twice"),
        ("assign", {"tasks": [{"id": "a", "text": "bake"}] * 201}, "invalid-input", "200"),
        ("assign", {"tasks": [{"id": "a", "text": "bake", "value": 0}]}, "invalid-input", "value"),
    ],
)
def test_bad_input_is_refused(broker: Broker, skill: str, data: dict[str, Any], code: str, text: str) -> None:
    """Each mistake has its code and names what is wrong."""
    error = broker.ask(AGENT, skill, data).error
    assert error is not None
    assert error["code"] == code
    assert text in error["message"]
