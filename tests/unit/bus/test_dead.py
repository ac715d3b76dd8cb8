"""Dead letters and keys with a window, through the broker's messages."""

from __future__ import annotations

from typing import Any

import pytest
from broker_rig import Rig

from sutazai.ids import replay_task_id
from sutazai.wire.planfacts import AgentFacts


def facts(*names: str) -> dict[str, AgentFacts]:
    """Agents with a skill ``do``."""
    return {name: AgentFacts(name, "/m", skills=[{"name": "do"}], deadline_ms=5_000) for name in names}


@pytest.fixture
def rig() -> Rig:
    """A broker that knows two agents."""
    return Rig(agents=facts("a", "b"))


def ask(rig: Rig, message: dict[str, Any]) -> dict[str, Any]:
    """Ask as a client."""
    peer, session = rig.client()
    rig.say(session, {"id": 9, **message})
    return peer.heard.pop()


def dead(rig: Rig, agent: str = "a") -> str:
    """Let a task die."""
    task = rig.submit(agent, attempts_max=1)
    peer, session = rig.instance(agent, f"k{task}")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    rig.say(session, {"t": "commit", "id": 1, "task": task, "fence": turn["fence"], "outcome": "failed",
                      "error": {"code": "boom", "message": "it broke"}})  # fmt: skip
    assert rig.status(task) == "dead"
    rig.broker.disconnected(session)
    return task


def test_each_letter_of_a_request_is_answered_for_itself(rig: Rig) -> None:
    """In the order of the request; what cannot be done says why and does not keep the others."""
    task, queued = dead(rig), rig.submit("b")
    answer = ask(rig, {"t": "replay", "tasks": [queued, task, "none", task], "by": "ada"})
    assert answer["t"] == "handled"
    wrong, first, unknown, again = answer["tasks"]
    assert (wrong["error"]["code"], unknown["error"]["code"]) == ("refused", "not-found")
    assert "queued, not dead" in wrong["error"]["detail"]
    assert (first["replay"], first["duplicate"], again["duplicate"]) == (replay_task_id(task), False, True)
    assert ask(rig, {"t": "get", "task": task})["task"]["handled_by"] == "ada"
    assert ask(rig, {"t": "discard", "tasks": [task]})["tasks"][0]["error"]["code"] == "refused"
    assert ask(rig, {"t": "dead"})["tasks"] == []
    assert rig.broker.statistics().queues["a"]["dead"] == 0


def test_a_letter_of_an_agent_that_is_gone_stays(rig: Rig) -> None:
    """A replay that nobody could execute is refused with near names; the letter is still there."""
    task = dead(rig, "b")
    rig.broker.directory.agents = facts("a", "bb")
    answer = ask(rig, {"t": "replay", "tasks": [task]})
    assert "there is no agent 'b'" in answer["tasks"][0]["error"]["detail"]
    assert [letter["id"] for letter in ask(rig, {"t": "dead", "agent": "b"})["tasks"]] == [task]
    assert ask(rig, {"t": "dead", "agent": "c"})["code"] == "not-found"


def test_a_replay_wakes_its_agent_and_can_die_again(rig: Rig) -> None:
    """It is a task like any other; its own death is a new letter."""
    task = dead(rig)
    name = ask(rig, {"t": "replay", "tasks": [task]})["tasks"][0]["replay"]
    peer, session = rig.instance("a", "k2")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    assert turn["task"]["id"] == name
    rig.say(session, {"t": "commit", "id": 1, "task": name, "fence": 1, "outcome": "failed", "error": {"code": "x"}})
    found = ask(rig, {"t": "dead"})["tasks"]
    assert [(letter["id"], letter["replay_of"]) for letter in found] == [(name, task)]


def test_an_empty_request_is_not_well_formed(rig: Rig) -> None:
    """Nothing is guessed."""
    assert ask(rig, {"t": "replay", "tasks": []})["code"] == "invalid-input"


def test_a_window_needs_a_key(rig: Rig) -> None:
    """A window alone is a mistake; with a key it ends with the broker's clock, not with the wall."""
    spec = {"agent": "a", "skill": "do"}
    answer = ask(rig, {"t": "submit", "tasks": [{**spec, "idempotency_window_ms": 5}]})
    assert (answer["code"], "an idempotency_key" in answer["detail"]) == ("invalid-input", True)
    task = rig.submit("a", idempotency_key="k", idempotency_window_ms=60_000)
    rig.clock.jump_wall(3_600_000)
    assert rig.submit("a", idempotency_key="k") == task
    rig.pass_time(60_000)
    assert rig.submit("a", idempotency_key="k") != task
