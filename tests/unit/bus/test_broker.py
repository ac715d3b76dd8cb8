"""The broker's decisions, one by one, without sockets: peers that record, a clock that is turned by hand."""

from __future__ import annotations

import os
from typing import Any

import pytest
from broker_rig import Peer, Rig

from sutazai.bus.broker import TICK_MS
from sutazai.bus.group import refuse, run_group, settle
from sutazai.bus.instances import CONNECT_MS_MAX
from sutazai.bus.options import Options
from sutazai.errors import StorageFullError
from sutazai.store.model import Get, Lose
from sutazai.wire.planfacts import AgentFacts


@pytest.fixture
def rig() -> Rig:
    """A broker that is open, with ``sutazaid`` there."""
    made = Rig()
    made.broker.linked(up=True)
    return made


def told(rig: Rig, session: Any, turn: dict[str, Any], **fields: Any) -> None:
    """Commit a turn."""
    rig.say(session, {"t": "commit", "id": 5, "task": turn["task"]["id"], "fence": turn["fence"],
                      "outcome": "result", **fields})  # fmt: skip


def test_a_pull_is_one_credit(rig: Rig) -> None:
    """Two pulls and a repeated commit never bring a second turn to an instance that runs one."""
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.say(session, {"t": "pull"})
    for _ in range(4):
        rig.submit()
    turns = [message for message in peer.heard if message["t"] == "turn"]
    assert len(turns) == 1
    for _ in range(2):
        rig.broker.received(session, {"t": "commit", "id": 5, "task": turns[0]["task"]["id"], "fence": 1,
                                      "outcome": "result", "pull": True})  # fmt: skip
    rig.settle()
    assert [message["t"] for message in peer.heard].count("turn") == 2


def test_a_commit_and_the_next_claim_share_one_group(rig: Rig) -> None:
    """``pull`` in a commit is matched in the same transaction, and the answer comes before the turn."""
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.submit()
    rig.submit()
    turn = peer.heard.pop()
    peer.heard.clear()
    groups = rig.broker.meters.totals.groups
    told(rig, session, turn, pull=True)
    assert rig.broker.meters.totals.groups == groups + 1
    assert peer.kinds() == ["committed", "turn"]


def test_a_closed_socket_waits_a_moment_for_the_word_whose_fault_it_was(rig: Rig) -> None:
    """An exit that is not the agent's own gives the attempt back; without a word it counts."""
    for own, attempt in ((False, 1), (None, 2)):
        task = rig.submit()
        peer, session = rig.instance("a", f"k{own}")
        rig.say(session, {"t": "pull"})
        assert peer.heard.pop()["t"] == "turn"
        rig.broker.disconnected(session)
        rig.settle()
        assert rig.status(task) == "leased"
        if own is None:
            rig.pass_time(1_000)
        else:
            rig.broker.told({"push": "exit", "ticket": f"k{own}", "agent": "a", "reason": "oom", "own": own})
            rig.settle()
        rig.pass_time(1_000)
        peer, session = rig.instance("a", f"again{own}")
        rig.say(session, {"t": "pull"})
        turn = peer.heard.pop()
        assert turn["task"]["attempt"] == attempt
        told(rig, session, turn)


def test_without_sutazaid_a_closed_socket_ends_the_lease_at_once() -> None:
    """Nobody could say whose fault it was, so it is not waited for."""
    rig = Rig()
    task = rig.submit()
    _, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.broker.disconnected(session)
    rig.settle()
    assert rig.status(task) == "queued"


def test_an_instance_keeps_its_turn_over_a_restart_of_the_broker(rig: Rig) -> None:
    """It comes back with the turn it holds, commits it, and nobody else got it meanwhile."""
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    rig.start()
    rig.broker.linked(up=True)
    rig.pass_time(1_000)
    assert rig.status(task) == "leased"
    peer, session = rig.instance("a", "k1", held={"task": task, "fence": turn["fence"]})
    rig.pass_time(Options().reattach_ms + 100)
    told(rig, session, turn)
    assert (peer.heard.pop()["status"], rig.status(task)) == ("succeeded", "succeeded")


def test_an_instance_whose_commit_came_twice_is_no_stranger(rig: Rig) -> None:
    """Stored just before the broker died, its commit is sent again; that one asks for work, and no pull follows."""
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    told(rig, session, turn, pull=True)
    rig.start()
    rig.broker.linked(up=True)
    rig.broker.told(
        {"push": "tickets", "tickets": [{"ticket": "k1", "agent": "a", "token": "s", "uid": peer.uid, "pid": peer.pid}]}
    )
    peer, session = rig.instance("a", "k1", held={"task": task, "fence": turn["fence"]})
    told(rig, session, turn, pull=True)
    assert peer.heard.pop()["status"] == "succeeded"
    rig.asked.clear()
    rig.pass_time(CONNECT_MS_MAX * 2)
    assert [each for each in rig.asked if each["op"] == "kill"] == []
    rig.submit()
    assert peer.heard.pop()["t"] == "turn"


def test_an_instance_that_never_asks_for_work_is_ended(rig: Rig) -> None:
    """It said hello before its import, and the import hangs."""
    peer, _ = rig.instance("a", "k1")
    ticket = {"ticket": "k1", "agent": "a", "token": "s", "uid": peer.uid, "pid": peer.pid}
    rig.broker.told({"push": "tickets", "tickets": [ticket]})
    rig.pass_time(CONNECT_MS_MAX + 1_000)
    assert [each["ticket"] for each in rig.asked if each["op"] == "kill"] == ["k1"]


def test_an_instance_that_does_not_come_back_loses_its_turn(rig: Rig) -> None:
    """After the grace the turn is given back as an infrastructure loss; the late one is told to stop."""
    task = rig.submit()
    _, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.start()
    rig.pass_time(Options().reattach_ms + 300)
    assert rig.status(task) == "queued"
    row = rig.store._connection.execute("SELECT attempt, losses FROM tasks WHERE id = ?", (task,)).fetchone()
    assert row == (0, 1)
    peer, _ = rig.instance("a", "k1", held={"task": task, "fence": 1})
    assert peer.kinds() == ["welcome", "cancel"]


def test_after_a_restart_the_dead_are_not_waited_for(rig: Rig) -> None:
    """``sutazaid`` lists who lives: a turn of anybody else is given back at once."""
    task = rig.submit()
    _, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.start()
    rig.broker.linked(up=True)
    rig.broker.told({"push": "tickets", "tickets": []})
    rig.settle()
    assert rig.status(task) == "queued"


def test_an_instance_that_comes_back_without_its_turn_gives_it_back_at_once(rig: Rig) -> None:
    """The turn was sent and never arrived: that is nobody's failure."""
    task = rig.submit()
    _, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.instance("a", "k1")
    assert rig.status(task) == "queued"
    assert rig.store._connection.execute("SELECT attempt, losses FROM tasks").fetchone() == (0, 1)


def test_silence_ends_a_lease_and_then_the_process(rig: Rig) -> None:
    """No heartbeat for a lease: the turn is lost, the instance is told, and killed when it does not answer."""
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    peer.kinds()
    rig.pass_time(Options().lease_ms - 1_000)
    rig.say(session, {"t": "heartbeat", "task": task, "fence": 1})
    assert peer.kinds() == ["lease"]
    rig.pass_time(Options().lease_ms - 1_000)
    assert rig.status(task) == "leased"
    rig.pass_time(2_000)
    assert rig.status(task) == "queued"
    assert "cancel" in peer.kinds()
    rig.pass_time(Options().cancel_grace_ms + 500)
    assert [request["ticket"] for request in rig.asked if request["op"] == "kill"] == ["k1"]


def test_a_broker_that_stood_still_blames_nobody(rig: Rig) -> None:
    """When the whole machine paused, heartbeats that wait in the sockets are read before leases end."""
    task = rig.submit()
    _, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.clock.advance(60_000)
    rig.broker.tick()
    rig.settle()
    assert rig.status(task) == "leased"


def test_a_hung_skill_is_stopped_and_then_killed_at_its_deadline(rig: Rig) -> None:
    """Past the deadline the turn is expired and fenced; an instance that answers is left alone, a deaf one is not."""
    for deaf in (False, True):
        rig.asked.clear()
        task = rig.submit(deadline_ms=1_000)
        peer, session = rig.instance("a", f"k{deaf}")
        rig.say(session, {"t": "pull"})
        turn = peer.heard.pop()
        rig.pass_time(1_100)
        assert rig.status(task) == "expired"
        assert peer.heard[-1] == {"t": "cancel", "task": task, "fence": turn["fence"]}
        if not deaf:
            told(rig, session, turn)
            assert peer.heard[-1]["code"] == "fenced"
        rig.pass_time(Options().cancel_grace_ms + 500)
        assert [r["ticket"] for r in rig.asked if r["op"] == "kill"] == (["kTrue"] if deaf else [])
        rig.broker.disconnected(session)


def test_demand_asks_for_what_is_missing_and_again_after_a_pause() -> None:
    """Two due tasks, one free instance: one more is asked for, with growing pauses, at once when there is room."""
    agents = {"a": AgentFacts("a", "m", instances_max=3, skills=[{"name": "do"}])}
    rig = Rig(agents=agents)
    rig.broker.linked(up=True)
    rig.submit()
    wakes = [request for request in rig.asked if request["op"] == "wake"]
    assert wakes == [{"op": "wake", "agent": "a", "want": 1}]
    rig.answers[rig.asked.index(wakes[0])]({"ok": True, "status": "wait", "why": "the pool is full"})
    rig.asked.clear()
    rig.pass_time(250)
    assert [request for request in rig.asked if request["op"] == "wake"] == []
    rig.broker.told({"push": "room", "agent": "a"})
    assert [request["want"] for request in rig.asked if request["op"] == "wake"] == [1]
    peer, session = rig.client()
    rig.say(session, {"t": "list", "id": 1})
    assert peer.heard.pop()["tasks"][0]["status"] == "queued"
    assert rig.broker.demand.why("a") == "the pool is full"


def test_an_instance_on_its_way_is_not_asked_for_twice() -> None:
    """A ticket that was announced counts until it is connected, gone or late."""
    rig = Rig(is_open=False, agents={"a": AgentFacts("a", "m", instances_max=3, skills=[{"name": "do"}])})
    rig.broker.linked(up=True)
    ticket = {"push": "ticket", "ticket": "k1", "agent": "a", "token": "s", "uid": os.geteuid(), "pid": 1}
    rig.broker.told(ticket)
    rig.submit()
    assert [request for request in rig.asked if request["op"] == "wake"] == []
    rig.submit()
    assert [request["want"] for request in rig.asked if request["op"] == "wake"] == [1]


def test_a_hello_may_come_before_its_ticket() -> None:
    """It is kept for a time; a wrong token, uid or process is turned away at once."""
    rig = Rig(is_open=False)
    peer, _ = rig.instance("a", "k1")
    assert peer.kinds() == []
    ticket = {"push": "ticket", "ticket": "k1", "agent": "a", "token": "s", "uid": os.geteuid(), "pid": 1}
    rig.broker.told(ticket)
    assert peer.kinds() == ["welcome"]
    for wrong in ({"token": "x"}, {"agent": "b"}, {"ticket": "k2"}):
        peer, _ = rig.instance(**{"agent": "a", "ticket": "k1", **wrong})
        rig.pass_time(Options().ticket_wait_ms + 500)
        assert (peer.kinds(), peer.closed) == (["error"], True), wrong


def test_a_stranger_is_no_client(rig: Rig) -> None:
    """Only root and the broker's own user may submit."""
    peer = Peer(uid=54_321)
    session = rig.broker.connected(peer)
    rig.broker.received(session, {"t": "hello", "v": 1, "role": "client", "name": "x"})
    assert (peer.heard.pop()["code"], peer.closed, session.role) == ("protocol", True, "")


def test_unknown_names_come_back_with_near_ones() -> None:
    """An agent or skill that does not exist is refused, with what was probably meant."""
    rig = Rig(agents={"health-monitor": AgentFacts("health-monitor", "m", skills=[{"name": "report"}])})
    peer, session = rig.client()
    for agent, skill, near in (("health-monitr", "report", "health-monitor"), ("health-monitor", "reprot", "report")):
        rig.say(session, {"t": "submit", "id": 1, "tasks": [{"agent": agent, "skill": skill}]})
        answer = peer.heard.pop()
        assert answer["code"] == "not-found"
        assert f"did you mean {near}?" in answer["detail"]


def test_emitting_to_nobody_fails_the_turn_for_good() -> None:
    """A child for an agent that does not exist would never end, so its parent is told."""
    rig = Rig(agents={"a": AgentFacts("a", "m", skills=[{"name": "do"}])})
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    told(rig, session, peer.heard.pop(), emits=[{"id": "c1", "agent": "nobody", "skill": "do"}])
    assert (peer.heard.pop()["status"], rig.status(task)) == ("failed", "failed")


def test_a_commit_that_is_not_well_formed_fails_its_turn(rig: Rig) -> None:
    """It would be malformed the next time too; a message without task and token is only refused."""
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    rig.say(session, {"t": "commit", "id": 1, "outcome": "result"})
    assert peer.heard.pop()["code"] == "invalid-input"
    rig.say(session, {"t": "commit", "id": 2, "task": task, "fence": 1, "outcome": "odd", "pull": True})
    assert (peer.heard.pop()["status"], rig.status(task)) == ("failed", "failed")


def test_draining_leases_nothing_more(rig: Rig) -> None:
    """Instances are sent home, their turns may finish, new tasks stay queued, leaving is always agreed."""
    first, second = rig.submit(), rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    rig.broker.told({"push": "drain"})
    assert peer.kinds()[-1] == "drain"
    told(rig, session, turn, pull=True)
    assert (rig.status(first), rig.status(second)) == ("succeeded", "queued")
    rig.say(session, {"t": "hibernate", "id": 3})
    assert peer.heard.pop()["t"] == "bye"


def test_a_number_that_no_store_can_hold_hurts_only_its_sender(rig: Rig) -> None:
    """A commit with an absurd token is refused, and the broker goes on with everybody else's work."""
    task = rig.submit()
    peer, session = rig.instance("a", "k1")
    rig.say(session, {"t": "pull"})
    turn = peer.heard.pop()
    rig.say(session, {"t": "commit", "id": 1, "task": task, "fence": 2**63, "outcome": "failed"})
    assert peer.heard.pop()["t"] == "error"
    told(rig, session, turn)
    assert rig.status(task) == "succeeded"
    assert rig.status(rig.submit()) == "queued"


def test_an_instance_with_a_claim_under_way_stays(rig: Rig) -> None:
    """Between the claim and its commit there is no lease yet; leaving then would burn an attempt."""
    peer, session = rig.instance("a", "k1")
    session.instance.claiming = True
    rig.say(session, {"t": "hibernate", "id": 3})
    assert peer.heard.pop()["t"] == "stay"
    session.instance.claiming = False
    rig.say(session, {"t": "hibernate", "id": 4})
    assert peer.heard.pop()["t"] == "bye"


def test_a_wait_ends_with_its_time(rig: Rig) -> None:
    """Who waits gets the task as it is when the time is over, once."""
    task = rig.submit()
    peer, session = rig.client()
    peer.kinds()
    rig.say(session, {"t": "wait", "id": 4, "task": task, "timeout_ms": 500})
    assert peer.kinds() == []
    rig.pass_time(1_000)
    assert [(m["t"], m["re"], m["task"]["status"]) for m in peer.heard] == [("task", 4, "queued")]


def test_clients_that_leave_are_forgotten(rig: Rig) -> None:
    """Their waits and watches cost nothing after them."""
    task = rig.submit()
    _, session = rig.client()
    rig.say(session, {"t": "wait", "id": 4, "task": task})
    rig.say(session, {"t": "watch", "id": 5, "task": task})
    assert len(rig.broker.watches) == 1
    rig.broker.disconnected(session)
    assert (len(rig.broker.watches), session.waits) == (0, 0)


def test_who_says_nothing_is_sent_away(rig: Rig) -> None:
    """A connection without a hello is closed after a time."""
    peer = Peer()
    rig.broker.connected(peer)
    rig.pass_time(11_000)
    assert peer.closed


def test_statistics_are_one_picture(rig: Rig) -> None:
    """Queues, totals, latencies and the store, as the wire's table names them."""
    rig.submit()
    peer, session = rig.client()
    rig.say(session, {"t": "stats", "id": 9})
    found = peer.heard.pop()
    assert found["queues"]["a"] == {"queued": 1, "leased": 0, "waiting": 0, "dead": 0, "ready": 1, "bytes": 4}
    assert (found["totals"]["accepted"], found["latency"]["accept"]["count"]) == (1, 1)
    assert {"bytes", "wal_bytes", "commit_ms_p50"} <= set(found["store"])


def test_a_turn_that_reached_nobody_is_given_back_when_the_disk_has_room_again(rig: Rig) -> None:
    """The instance goes between claim and delivery on a full disk: asked again with each tick, nobody's fault."""
    _, session = rig.instance("a", "k")
    rig.say(session, {"t": "pull"})
    _, client = rig.client()
    rig.broker.received(client, {"t": "submit", "id": 1, "tasks": [{"agent": "a", "skill": "do", "id": "t1"}]})
    group = run_group(rig.store, rig.broker_clock, rig.broker.journal.take(), rig.broker.hooks)
    rig.store.commit(rig.broker_clock.reading())
    rig.broker.disconnected(session)
    rig.broker.committed(group.done)
    settle(group.done)
    for _ in range(2):
        assert [type(entry.operation) for entry in rig.broker.journal.pending].count(Lose) == 1
        refuse(rig.broker.journal.take(), StorageFullError("full"))
        assert rig.status("t1") == "leased"
        rig.clock.advance(TICK_MS)
        rig.broker.tick()
        rig.broker.told({"push": "exit", "ticket": "k", "agent": "a", "own": True})
    rig.settle()
    assert rig.status("t1") == "queued"
    found = rig.store.apply(Get("t1"), 1, 1).reply
    assert (found["attempt"], found["losses"]) == (0, 1)
    assert not rig.broker.leases.by_task


def test_an_agent_that_nobody_knows_has_no_list(rig: Rig) -> None:
    """Its name is a mistake, with near names; one that is gone from the plan and has tasks is listed."""
    rig.submit("gone")
    rig.start(agents={"demo": AgentFacts("demo", "m", skills=[{"name": "do"}])})
    peer, session = rig.client()
    rig.say(session, {"t": "list", "id": 1, "agent": "dmo"})
    answer = peer.heard.pop()
    assert (answer["code"], answer["re"]) == ("not-found", 1)
    assert "did you mean demo?" in answer["detail"]
    for agent, count in (("demo", 0), ("gone", 1)):
        rig.say(session, {"t": "list", "id": 1, "agent": agent})
        assert len(peer.heard.pop()["tasks"]) == count
