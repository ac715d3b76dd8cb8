"""Pressure from outside: less is begun, nothing is lost, nobody is woken in vain, and a person reads why."""

from __future__ import annotations

from typing import Any

import pytest
from broker_rig import Peer, Rig

from sutazai.bus.pressure import Pressure
from sutazai.wire.planfacts import AgentFacts


@pytest.fixture
def rig() -> Rig:
    """A broker with one agent of four instances, and ``sutazaid``."""
    made = Rig(agents={"a": AgentFacts("a", "/m", skills=[{"name": "do"}], instances_max=4)})
    made.broker.linked(up=True)
    return made


def press(rig: Rig, **said: Any) -> None:
    """Let ``sutazaid`` say it."""
    rig.broker.told({"push": "pressure", **said})
    rig.settle()


def pulled(rig: Rig, ticket: str) -> tuple[Peer, Any]:
    """Connect an instance that asks for a turn."""
    peer, session = rig.instance("a", ticket)
    rig.say(session, {"t": "pull"})
    return peer, session


def turns(peer: Peer) -> list[str]:
    """Tasks that an instance was given; forgets what it heard."""
    found = [message["task"]["id"] for message in peer.heard if message["t"] == "turn"]
    peer.heard.clear()
    return found


def all_turns(people: list[tuple[Peer, Any]]) -> list[str]:
    """Tasks that any of them was given."""
    return [task for peer, _ in people for task in turns(peer)]


def why(rig: Rig, task: str) -> str:
    """Why a task waits."""
    peer, session = rig.client()
    rig.say(session, {"t": "get", "id": 1, "task": task})
    text: str = peer.heard.pop()["task"]["why"]
    return text


def woken(rig: Rig) -> bool:
    """Whether an instance was asked for; answers yes and forgets it."""
    found = False
    for ask, answered in zip(rig.asked, rig.answers, strict=True):
        if ask["op"] == "wake":
            found = True
            answered({"ok": True, "status": "yes"})
    rig.asked.clear()
    rig.answers.clear()
    return found


def test_only_important_tasks_start_until_it_is_over(rig: Rig) -> None:
    """The others wait, say why, keep nobody awake and wake nobody; then they start at once."""
    press(rig, priority_max=2, share=1, why="memory")
    late = rig.submit(priority=5)
    peer, session = pulled(rig, "k1")
    assert turns(peer) == []
    assert why(rig, late) == "held back (memory): only priorities up to 2 start"
    assert rig.broker.statistics().pressure == {"priority_max": 2, "share": 1.0, "why": "memory"}
    rig.pass_time(500)
    rig.say(session, {"t": "hibernate", "id": 2})
    assert peer.kinds() == ["bye"]
    rig.broker.disconnected(session)
    woken(rig)
    rig.pass_time(5_000)
    assert not woken(rig)
    soon = rig.submit(priority=2)
    rig.pass_time(1_500)
    assert woken(rig)
    peer, session = pulled(rig, "k2")
    assert turns(peer) == [soon]
    other, _ = pulled(rig, "k3")
    press(rig)
    assert turns(other) == [late]
    assert why(rig, late) == ""


def test_a_share_of_the_instances_works(rig: Rig) -> None:
    """Half of four may have a turn; what runs goes on; a turn that ends makes room for the next."""
    people = [pulled(rig, f"k{number}") for number in range(4)]
    press(rig, share=0.5)
    tasks = [rig.submit() for _ in range(4)]
    given = [turns(peer) for peer, _ in people]
    assert sorted(task for found in given for task in found) == sorted(tasks[:2])
    assert why(rig, tasks[2]) == "held back: 50% of the instances may work"
    place = next(place for place, found in enumerate(given) if found)
    rig.say(people[place][1], {"t": "commit", "id": 1, "task": given[place][0], "fence": 1, "outcome": "result"})
    assert all_turns(people) == [tasks[2]]
    press(rig, share=0)
    rig.pass_time(2_000)
    assert all_turns(people) == []
    press(rig, share=1)
    assert all_turns(people) == [tasks[3]]


def test_what_was_said_is_bounded() -> None:
    """Nonsense lets all go: a broker that misunderstands must not stand still."""
    assert Pressure.read({"priority_max": "high", "share": None}) == Pressure()
    assert Pressure.read({"priority_max": -4, "share": 7}) == Pressure(0, 1.0)
    assert Pressure.read({"share": True}) == Pressure()
    assert Pressure.read({"priority_max": 3, "share": 0.25, "why": "x" * 999}).why == "x" * 200


def test_a_full_queue_of_an_agent_says_when_to_come_back() -> None:
    """By how fast that agent's tasks end; another agent's tasks are taken."""
    agents = {
        name: AgentFacts(name, "/m", skills=[{"name": "do"}], queue=queue)
        for name, queue in (("a", {"tasks_max": 40, "bytes_max": 0}), ("b", {}))
    }
    rig = Rig(agents=agents)
    peer, session = rig.client()
    rig.say(session, {"t": "submit", "id": 1, "tasks": [{"agent": "a", "skill": "do"}] * 40})
    rig.say(session, {"t": "submit", "id": 2, "tasks": [{"agent": "a", "skill": "do"}]})
    full = peer.heard.pop()
    assert (full["code"], full["retry_after_s"]) == ("queue-full", 2)  # a twentieth of 40, one a second
    assert "40 tasks of a are open, its bound is 40" in full["detail"]
    rig.submit("b")
    assert rig.broker.statistics().open_bytes == 41 * len("null")
