"""A rate holds an agent's tasks: nobody spins, nobody is woken for nothing, and a person reads why a task waits."""

from __future__ import annotations

from typing import Any

from broker_rig import Peer, Rig

from sutazai.wire.planfacts import AgentFacts


def facts(**fields: Any) -> dict[str, AgentFacts]:
    """One agent."""
    return {"a": AgentFacts("a", "/m", skills=[{"name": "do"}], instances_max=4, **fields)}


def limited(interval_ms: int = 2_000, burst: int = 1) -> Rig:
    """A broker whose agent has a rate."""
    return Rig(agents=facts(rate={"interval_us": interval_ms * 1_000, "burst": burst}))


def turns(peer: Peer) -> list[dict[str, Any]]:
    """Turns that an instance was given; forgets what it heard."""
    found = [message for message in peer.heard if message["t"] == "turn"]
    peer.heard.clear()
    return found


def get(rig: Rig, task: str) -> dict[str, Any]:
    """Read a task as a client."""
    peer, session = rig.client()
    rig.say(session, {"t": "get", "id": 1, "task": task})
    found: dict[str, Any] = peer.heard.pop()["task"]
    return found


def wanted(rig: Rig) -> list[int]:
    """Instances that were asked for; answers yes and forgets it."""
    found = []
    for ask, answered in zip(rig.asked, rig.answers, strict=True):
        if ask["op"] == "wake":
            found.append(ask["want"])
            answered({"ok": True, "status": "yes"})
    rig.asked.clear()
    rig.answers.clear()
    return found


def done(rig: Rig, session: Any, turn: dict[str, Any]) -> None:
    """Commit a turn and ask for the next one."""
    rig.say(session, {"t": "commit", "id": 1, "task": turn["task"]["id"], "fence": turn["fence"], "outcome": "result",
                      "pull": True})  # fmt: skip


def test_the_next_turn_starts_at_its_time_and_says_why_it_waits() -> None:
    """One in two seconds: the second task waits, says so, and is claimed at its time, not before."""
    rig = limited()
    tasks = [rig.submit() for _ in range(2)]
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    (turn,) = turns(peer)
    done(rig, session, turn)
    assert get(rig, tasks[1])["why"] == "rate limit, next in 2 s"
    rig.pass_time(1_500)
    assert get(rig, tasks[1])["why"] == "rate limit, next in 500 ms"
    assert rig.broker.statistics().limited == {"a": 500}
    rig.pass_time(499)
    assert turns(peer) == []
    rig.pass_time(1)
    assert [turn["task"]["id"] for turn in turns(peer)] == [tasks[1]]
    assert rig.broker.statistics().limited == {}


def test_a_task_that_waits_for_its_rate_costs_nothing() -> None:
    """While it waits there is no work to do; the next look is at its time."""
    rig = limited(60_000)
    rig.submit()
    rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    done(rig, session, turns(peer)[0])
    assert not rig.broker.has_work()
    rig.pass_time(1_000)
    groups = rig.broker.meters.totals.groups
    rig.pass_time(3_000)
    assert rig.broker.meters.totals.groups == groups


def test_a_restart_of_the_broker_does_not_begin_anew() -> None:
    """The store holds the rate: the new broker asks once, is told the time, and keeps it."""
    rig = limited(10_000)
    agents = rig.broker.directory.agents
    tasks = [rig.submit() for _ in range(2)]
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    done(rig, session, turns(peer)[0])
    rig.start(agents=agents)
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.pass_time(9_900)
    assert turns(peer) == []
    rig.pass_time(100)
    assert [turn["task"]["id"] for turn in turns(peer)] == [tasks[1]]


def test_nobody_is_woken_for_a_turn_that_may_not_start() -> None:
    """A burst of two wakes two; then the idle may hibernate, and at its time one is asked for."""
    rig = limited(10_000, burst=2)
    rig.broker.linked(up=True)
    peer, session = rig.client()
    rig.say(session, {"t": "submit", "id": 1, "tasks": [{"agent": "a", "skill": "do"}] * 6})
    assert wanted(rig) == [2]
    people = [rig.instance("a", f"k{number}") for number in range(2)]
    for _, session in people:
        rig.say(session, {"t": "pull"})
    for peer, session in people:
        done(rig, session, turns(peer)[0])
        rig.say(session, {"t": "hibernate", "id": 9})
        assert peer.kinds()[-1] == "bye"
        rig.broker.disconnected(session)
    rig.pass_time(9_000)
    assert wanted(rig) == []
    rig.pass_time(1_000)
    assert wanted(rig) == [1]


def test_a_new_plan_lets_go() -> None:
    """When the plan has no rate any more, what waited starts at once."""
    rig = limited(60_000)
    rig.submit()
    rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    done(rig, session, turns(peer)[0])
    assert turns(peer) == []
    rig.broker.replan(facts())
    rig.settle()
    assert len(turns(peer)) == 1


def test_the_pauses_are_the_agents_own() -> None:
    """``jitter: none`` waits the whole time; losses of an instance wait by the same rule."""
    retry = {"base_ms": 1_000, "factor": 3.0, "max_ms": 5_000, "jitter": "none"}
    rig = Rig(agents=facts(retry=retry, attempts_max=5))
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    for pause_ms in (1_000, 3_000, 5_000):
        rig.say(session, {"t": "pull"})
        (turn,) = turns(peer)
        rig.say(session, {"t": "commit", "id": 1, "task": task, "fence": turn["fence"], "outcome": "failed",
                          "error": {"code": "x"}})  # fmt: skip
        assert get(rig, task)["due_in_ms"] == pause_ms
        rig.pass_time(pause_ms)
    rig.say(session, {"t": "pull"})
    rig.broker.disconnected(session)
    rig.settle()
    assert get(rig, task)["due_in_ms"] == 5_000
