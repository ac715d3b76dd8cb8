"""Acts: who may ask, what is forwarded, and that nobody waits for ever."""

from __future__ import annotations

from typing import Any

import pytest
from broker_rig import Rig

from sutazai.limits import ACT_WAIT_MS, ACTS_PENDING_MAX
from sutazai.wire.planfacts import AgentFacts

SKILLS = [{"name": "do"}]
AGENTS = {
    "a": AgentFacts("a", "m", instances_max=3, skills=SKILLS, powers=["reclaim"]),
    "b": AgentFacts("b", "m", instances_max=3, skills=SKILLS),
}


def at_work(rig: Rig, agent: str) -> tuple[Any, Any, dict[str, Any]]:
    """Bring an instance to work on a task; gives its peer, its session and an act without an action."""
    peer, session = rig.instance(agent, f"k-{agent}")
    rig.submit(agent)
    rig.say(session, {"t": "pull"})
    turn = next(message for message in peer.heard if message["t"] == "turn")
    peer.heard.clear()
    rig.asked.clear()
    rig.answers.clear()
    return peer, session, {"t": "act", "id": 9, "task": turn["task"]["id"], "fence": turn["fence"]}


@pytest.fixture
def acting() -> Rig:
    """A broker that knows two agents, one of them with a power."""
    rig = Rig(agents=AGENTS)
    rig.broker.linked(up=True)
    return rig


def test_an_act_goes_to_sutazaid_and_its_answer_back(acting: Rig) -> None:
    """The arguments are complete, who asked is said, and idle instances are named: not the one that asks."""
    acting.instance("b", "k-idle")
    peer, session, act = at_work(acting, "a")
    acting.say(session, {**act, "action": "reclaim", "arguments": {"bytes": 5, "dry_run": False}})
    assert acting.asked == [
        {
            "op": "reclaim", "subject": "", "bytes": 5, "dry_run": False, "agent": "a", "task": act["task"],
            "idle": ["k-idle"],
        }
    ]  # fmt: skip
    assert not peer.heard, "the broker waits, and serves others meanwhile"
    acting.answers[0]({"ok": True, "done": {"freed_bytes": 3}})
    assert peer.heard.pop() == {"t": "acted", "re": 9, "done": {"freed_bytes": 3}}


@pytest.mark.parametrize(
    ("agent", "fields", "code", "text"),
    [
        ("b", {"action": "reclaim"}, "refused", "b has not the power 'reclaim'"),
        ("a", {"action": "reclaimm"}, "refused", "did you mean reclaim"),
        ("a", {"action": "fly"}, "refused", "there are: reclaim"),
        ("a", {"action": "reclaim", "arguments": {"byts": 1}}, "invalid-input", "has no argument 'byts'"),
        ("a", {"action": "reclaim", "arguments": {"bytes": "1"}}, "invalid-input", "'bytes' is a number"),
        ("a", {"action": "reclaim", "arguments": {"bytes": True}}, "invalid-input", "'bytes' is a number"),
        ("a", {"action": "reclaim", "arguments": {"bytes": -1}}, "invalid-input", "'bytes' is 0 to"),
        ("a", {"action": "reclaim", "arguments": {"subject": "x" * 201}}, "invalid-input", "characters, not 201"),
        ("a", {"action": "reclaim", "fence": 99}, "fenced", "only a turn that holds"),
        ("a", {"action": "reclaim", "task": "t_other"}, "fenced", "only a turn that holds"),
        ("a", {"action": 3}, "invalid-input", "not well formed"),
    ],
)
def test_what_may_not_be_is_refused_and_never_reaches_sutazaid(
    acting: Rig, agent: str, fields: dict[str, Any], code: str, text: str
) -> None:
    """Without the power, with a wrong word or for a turn of somebody else, nothing is forwarded."""
    peer, session, act = at_work(acting, agent)
    acting.say(session, {**act, **fields})
    answer = peer.heard.pop()
    assert (answer["t"], answer["code"], answer["re"]) == ("error", code, 9)
    assert text in answer["detail"]
    assert acting.asked == []
    assert not peer.closed


def test_a_client_may_not_act(acting: Rig) -> None:
    """The message belongs to instances."""
    peer, session = acting.client()
    acting.say(session, {"t": "act", "id": 1, "task": "t", "fence": 1, "action": "reclaim"})
    assert peer.heard.pop()["code"] == "protocol"
    assert acting.asked == []


def test_a_refusal_of_sutazaid_keeps_its_code(acting: Rig) -> None:
    """What cannot help to be tried again is told apart from what can."""
    peer, session, act = at_work(acting, "a")
    for code, expected in (("not-found", "not-found"), ("unavailable", "unavailable"), ("odd", "refused")):
        acting.answers.clear()
        acting.say(session, {**act, "action": "reclaim"})
        acting.answers[0]({"ok": False, "code": code, "error": "because"})
        answer = peer.heard.pop()
        assert (answer["code"], answer["detail"]) == (expected, "because")


def test_nobody_waits_for_a_sutazaid_that_is_gone_or_silent(acting: Rig) -> None:
    """A broken line and silence are both answered with `unavailable`; a late answer changes nothing."""
    peer, session, act = at_work(acting, "a")
    acting.say(session, {**act, "action": "reclaim"})
    acting.broker.linked(up=False)
    assert peer.heard.pop()["code"] == "unavailable"
    acting.broker.linked(up=True)
    acting.answers.clear()
    acting.say(session, {**act, "action": "reclaim"})
    late = acting.answers[-1]
    peer.heard.clear()
    acting.pass_time(ACT_WAIT_MS + 500)
    assert [message["code"] for message in peer.heard if message["t"] == "error"] == ["unavailable"]
    peer.heard.clear()
    late({"ok": True, "done": {}})
    assert not peer.heard


def test_acts_under_way_are_bounded(acting: Rig) -> None:
    """One that asks again and again does not fill the broker."""
    peer, session, act = at_work(acting, "a")
    for number in range(ACTS_PENDING_MAX + 1):
        acting.say(session, {**act, "id": number, "action": "reclaim"})
    assert [message["code"] for message in peer.heard] == ["unavailable"]
    assert len(acting.asked) == ACTS_PENDING_MAX


def test_rest_reaches_only_those_without_work(acting: Rig) -> None:
    """An instance at work and one that is unknown are not disturbed; an idle one is asked and then leaves as usual."""
    busy, _, _ = at_work(acting, "a")
    idle, session = acting.instance("b", "k-idle")
    acting.say(session, {"t": "pull"})
    idle.heard.clear()
    acting.broker.told({"push": "rest", "tickets": ["k-a", "k-idle", "k-gone"]})
    assert busy.kinds() == []
    assert idle.kinds() == ["rest"]
    acting.say(session, {"t": "hibernate", "id": 1})
    assert idle.kinds() == ["bye"]
    acting.submit("b")
    assert idle.kinds() == [], "who has agreed to leave gets no task"


def test_an_instance_that_got_work_meanwhile_stays(acting: Rig) -> None:
    """Between `rest` and `hibernate` a task came: nothing is lost, it is done by this very instance."""
    idle, session = acting.instance("b", "k-idle")
    acting.say(session, {"t": "pull"})
    acting.broker.told({"push": "rest", "tickets": ["k-idle"]})
    acting.submit("b")
    acting.say(session, {"t": "hibernate", "id": 1})
    assert [kind for kind in idle.kinds() if kind not in {"welcome", "rest"}] == ["turn", "stay"]
