"""Waiting for somebody outside, and reading what was stored: the broker's side, over messages."""

from __future__ import annotations

from typing import Any

import pytest
from broker_rig import Rig

from sutazai.wire.planfacts import AgentFacts

SKILLS = [{"name": "do"}]
AGENTS = {name: AgentFacts(name, "m", instances_max=3, skills=SKILLS) for name in ("a", "b")}


def turn_of(rig: Rig, agent: str, ticket: str) -> tuple[Any, Any, dict[str, Any]]:
    """Bring an instance to work on the next task of its agent; gives its peer, its session and the turn."""
    peer, session = rig.instance(agent, ticket)
    rig.say(session, {"t": "pull"})
    turn = next(message for message in peer.heard if message["t"] == "turn")
    peer.heard.clear()
    return peer, session, turn


def ask(rig: Rig, message: dict[str, Any]) -> dict[str, Any]:
    """Ask as a client."""
    peer, session = rig.client()
    rig.say(session, {"id": 1, **message})
    return peer.heard.pop()


@pytest.fixture
def rig() -> Rig:
    """A broker in which a task of ``a`` has kept a value and waits for a person."""
    made = Rig(agents=AGENTS)
    made.top = made.submit("a")  # type: ignore[attr-defined]
    _, session, turn = turn_of(made, "a", "k-first")
    commit = {
        "t": "commit", "id": 1, "task": turn["task"]["id"], "fence": turn["fence"], "outcome": "wait",
        "wait": {"tasks": ["t_ask"], "then": "go_on"}, "keeps": {"graph": {"n": 1}},
        "emits": [{"id": "t_ask", "agent": "human", "skill": "approve", "input": {"text": "?"}, "label": "ask"}],
    }  # fmt: skip
    made.say(session, commit)
    return made


def test_a_question_waits_without_an_instance(rig: Rig) -> None:
    """It is listed with its text and says what it waits for; nobody is woken for it."""
    (found,) = ask(rig, {"t": "waiting"})["tasks"]
    assert (found["id"], found["input"], found["label"], found["status"]) == ("t_ask", {"text": "?"}, "ask", "queued")
    assert "sutazai task approve" in found["why"]
    rig.broker.linked(up=True)
    rig.pass_time(60_000)
    assert not [request for request in rig.asked if request["op"] == "wake" and request["agent"] == "human"]


def test_an_answer_wakes_the_asker(rig: Rig) -> None:
    """Approved by way of the task above; the same again is told who was first."""
    answer = ask(rig, {"t": "resolve", "task": rig.top, "verdict": "approve", "by": "ada"})  # type: ignore[attr-defined]
    assert (answer["t"], answer["task"]["id"], answer["task"]["status"]) == ("task", "t_ask", "succeeded")
    _, _, turn = turn_of(rig, "a", "k-second")
    assert turn["task"]["results"][0]["result"]["by"] == "ada"
    again = ask(rig, {"t": "resolve", "task": "t_ask", "verdict": "deny", "by": "bob"})
    assert (again["code"], "approved by ada" in again["detail"]) == ("refused", True)
    assert ask(rig, {"t": "resolve", "task": "t_ask", "verdict": "maybe", "by": "bob"})["code"] == "invalid-input"


def test_no_instance_has_such_a_name(rig: Rig) -> None:
    """Who says to be ``human`` is turned away."""
    peer, _ = rig.instance("human", "k-human")
    assert (peer.heard.pop()["code"], peer.closed) == ("protocol", True)


def test_a_later_turn_recalls(rig: Rig) -> None:
    """Kept values and results of the own agent's tasks; another agent's are refused, so is a turn that is over."""
    ask(rig, {"t": "resolve", "task": "t_ask", "verdict": "approve", "by": "ada", "data": 5})
    peer, session, turn = turn_of(rig, "a", "k-second")
    held = {"t": "recall", "id": 9, "task": turn["task"]["id"], "fence": turn["fence"]}
    rig.say(session, {**held, "names": ["graph", "none"], "results": ["t_ask"]})
    answer = peer.heard.pop()
    assert (answer["values"], answer["left"]) == ({"graph": {"n": 1}}, [])
    assert answer["results"][0]["result"]["data"] == 5
    rig.say(session, {**held, "fence": 99})
    assert peer.heard.pop()["code"] == "fenced"
    rig.submit("b")
    peer, session, other = turn_of(rig, "b", "k-other")
    held = {"t": "recall", "id": 9, "task": other["task"]["id"], "fence": other["fence"]}
    rig.say(session, {**held, "of": rig.top, "names": ["graph"]})  # type: ignore[attr-defined]
    assert peer.heard.pop()["code"] == "refused"
    rig.say(session, {**held, "results": ["t_ask"]})
    assert peer.heard.pop()["code"] == "refused"
