"""Own tasks: an agent sees and cancels what it was asked for and what came out of it, and nothing else."""

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


def ask(peer: Any, turn: dict[str, Any], session: Any, rig: Rig, **fields: Any) -> dict[str, Any]:
    """Ask for own tasks; gives the answer."""
    rig.say(session, {"t": "own", "id": 9, "task": turn["task"]["id"], "fence": turn["fence"], **fields})
    answer: dict[str, Any] = next(message for message in peer.heard if message.get("re") == 9)
    peer.heard.clear()
    return answer


@pytest.fixture
def rig() -> Rig:
    """A broker in which a goal of ``a`` waits for two tasks of ``b``: one runs, one is queued."""
    made = Rig(agents=AGENTS)
    made.goal = made.submit("a", input={"secret": 1})  # type: ignore[attr-defined]
    _, session, turn = turn_of(made, "a", "k-first")
    held = {"task": turn["task"]["id"], "fence": turn["fence"]}
    emits = [{"id": f"t_child{number}", "agent": "b", "skill": "do", "input": {"secret": 2}} for number in (1, 2)]
    wait = {"tasks": ["t_child1", "t_child2"], "then": "go_on"}
    made.say(session, {"t": "commit", "id": 1, **held, "outcome": "wait", "wait": wait, "emits": emits})
    made.child = turn_of(made, "b", "k-child")  # type: ignore[attr-defined]
    return made


def test_a_goal_is_seen_with_what_came_out_of_it(rig: Rig) -> None:
    """Listed and read by a later turn of the same agent, parents first, without any input or result."""
    rig.submit("a")
    peer, session, turn = turn_of(rig, "a", "k-second")
    listed = ask(peer, turn, session, rig, do="list")["tasks"]
    assert [task["id"] for task in listed] == [turn["task"]["id"], rig.goal]  # type: ignore[attr-defined]
    tree = ask(peer, turn, session, rig, do="tree", of=rig.goal)["tasks"]  # type: ignore[attr-defined]
    assert [(task["agent"], task["status"]) for task in tree] == [("a", "waiting"), ("b", "leased"), ("b", "queued")]
    assert "secret" not in str(tree)
    assert all("input" not in task and "result" not in task for task in tree)


def test_cancelling_reaches_everything(rig: Rig) -> None:
    """The goal, the queued and the running task end; the running instance is told; a second time changes nothing."""
    rig.submit("a")
    peer, session, turn = turn_of(rig, "a", "k-second")
    goal = rig.goal  # type: ignore[attr-defined]
    tree = ask(peer, turn, session, rig, do="cancel", of=goal, reason="no longer wanted")["tasks"]
    assert [task["status"] for task in tree] == ["cancelled"] * 3
    child_peer = rig.child[0]  # type: ignore[attr-defined]
    assert "cancel" in child_peer.kinds()
    assert rig.status(goal) == "cancelled"
    again = ask(peer, turn, session, rig, do="cancel", of=goal)["tasks"]
    assert [task["status"] for task in again] == ["cancelled"] * 3
    assert again[0]["error"] == tree[0]["error"], "the first reason stays"
    assert rig.status(turn["task"]["id"]) == "leased", "the turn that asked goes on"


def test_an_error_is_shown_without_its_evidence(rig: Rig) -> None:
    """Code and message, not the traceback, which may hold another agent's data."""
    _, child_session, child = rig.child  # type: ignore[attr-defined]
    held = {"task": child["task"]["id"], "fence": child["fence"]}
    error = {"code": "bad", "message": "it failed", "retryable": False, "detail": {"traceback": "secret"}}
    rig.say(child_session, {"t": "commit", "id": 1, **held, "outcome": "failed", "error": error})
    rig.submit("a")
    peer, session, turn = turn_of(rig, "a", "k-second")
    tree = ask(peer, turn, session, rig, do="tree", of=rig.goal)["tasks"]  # type: ignore[attr-defined]
    assert tree[1]["error"] == {"code": "bad", "message": "it failed"}


def test_what_is_over_stays(rig: Rig) -> None:
    """A task that had succeeded before keeps its end."""
    _, child_session, child = rig.child  # type: ignore[attr-defined]
    held = {"task": child["task"]["id"], "fence": child["fence"]}
    rig.say(child_session, {"t": "commit", "id": 1, **held, "outcome": "result", "result": 5})
    rig.submit("a")
    peer, session, turn = turn_of(rig, "a", "k-second")
    tree = ask(peer, turn, session, rig, do="cancel", of=rig.goal)["tasks"]  # type: ignore[attr-defined]
    assert [task["status"] for task in tree] == ["cancelled", "succeeded", "cancelled"]


def test_others_tasks_are_others(rig: Rig) -> None:
    """Another agent's task, also its own caller's, is refused; so is one that nobody knows, and the own root."""
    peer, session, turn = rig.child  # type: ignore[attr-defined]
    goal = rig.goal  # type: ignore[attr-defined]
    for do in ("tree", "cancel"):
        answer = ask(peer, turn, session, rig, do=do, of=goal)
        assert (answer["code"], answer["t"]) == ("refused", "error")
        assert "is not one of b, nor made by one" in answer["detail"]
        assert ask(peer, turn, session, rig, do=do, of="t_unknown")["code"] == "not-found"
        assert ask(peer, turn, session, rig, do=do)["code"] == "refused"
    answer = ask(peer, turn, session, rig, do="cancel", of=turn["task"]["id"])
    assert "is what this turn works for" in answer["detail"]
    assert rig.status(goal) == "waiting"
    assert rig.status(turn["task"]["id"]) == "leased"


def test_only_a_turn_that_holds_may_ask(rig: Rig) -> None:
    """A lost turn, a wrong fence and a message that is not well formed are refused."""
    peer, session, turn = rig.child  # type: ignore[attr-defined]
    assert ask(peer, turn, session, rig, do="list", fence=99)["code"] == "fenced"
    assert ask(peer, turn, session, rig, do="list", task="t_other")["code"] == "fenced"
    assert ask(peer, turn, session, rig, do="delete", of="t_child1")["code"] == "invalid-input"
    assert ask(peer, turn, session, rig, do="list", limit=0)["code"] == "invalid-input"


def test_what_was_handed_on_may_be_called_off(rig: Rig) -> None:
    """A task that an own task emitted is read with its turns, and cancelled, though another agent works on it."""
    rig.submit("a")
    peer, session, turn = turn_of(rig, "a", "k-second")
    (seen,) = ask(peer, turn, session, rig, do="tree", of="t_child1")["tasks"]
    assert (seen["starts"], seen["commits"], seen["lost"]) == (1, 0, 0)
    assert ask(peer, turn, session, rig, do="cancel", of="t_child1")["tasks"][0]["status"] == "cancelled"
    assert rig.status("t_child2") == "queued"
