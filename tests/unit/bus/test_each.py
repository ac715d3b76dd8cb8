"""Waiting for many tasks with one question."""

from __future__ import annotations

from typing import Any

import pytest
from broker_rig import Peer, Rig

from sutazai.bus import each
from sutazai.store.ends import Outcomes


@pytest.fixture
def rig() -> Rig:
    """A broker that is open."""
    return Rig()


def ask(rig: Rig, tasks: list[str], **fields: Any) -> tuple[Peer, Any]:
    """A client that waits for tasks."""
    peer, session = rig.client()
    peer.heard.clear()
    rig.say(session, {"t": "wait_each", "id": 7, "tasks": tasks, **fields})
    return peer, session


def run(rig: Rig, tasks: int, **fields: Any) -> None:
    """Let an instance run tasks of ``a``."""
    peer, session = rig.instance("a", f"k{rig.broker_clock.now_ms()}-{len(rig.broker.sessions)}")
    for _ in range(tasks):
        rig.say(session, {"t": "pull"})
        turn = next(message for message in reversed(peer.heard) if message["t"] == "turn")
        rig.say(session, {"t": "commit", "id": 5, "task": turn["task"]["id"], "fence": turn["fence"],
                          "outcome": "result", "result": {"n": 1}, **fields})  # fmt: skip


def heard(peer: Peer) -> list[tuple[Any, ...]]:
    """What a client was told."""
    return [(m["t"], m["re"], m.get("task", m.get("open")), m.get("status")) for m in peer.heard]


def test_each_end_is_told_once_in_the_order_of_the_ends(rig: Rig) -> None:
    """Those that were over before, and those that end later; the last one closes the question."""
    names = [rig.submit() for _ in range(3)]
    run(rig, 1)
    peer, session = ask(rig, [*reversed(names), names[2]])
    assert heard(peer) == [("ended", 7, names[0], "succeeded")]
    assert peer.heard[0]["result"] == {"n": 1}
    run(rig, 2)
    assert heard(peer)[1:] == [("ended", 7, name, "succeeded") for name in names[1:]] + [("end", 7, [], None)]
    assert session.waits == 0


def test_a_failure_is_told_with_its_reason(rig: Rig) -> None:
    """What did not succeed has an error and no result."""
    name = rig.submit()
    peer, _ = ask(rig, [name])
    run(rig, 1, outcome="failed", result=None, error={"code": "broken", "message": "it is", "retryable": False})
    assert heard(peer) == [("ended", 7, name, "failed"), ("end", 7, [], None)]
    assert peer.heard[0]["error"]["code"] == "broken"
    assert peer.heard[0]["result"] is None


def test_after_its_time_the_question_is_answered_with_what_is_open(rig: Rig) -> None:
    """In the order in which they were asked for."""
    names = [rig.submit() for _ in range(3)]
    peer, session = ask(rig, names, timeout_ms=1_000)
    run(rig, 1)
    rig.pass_time(2_000)
    assert heard(peer) == [("ended", 7, names[0], "succeeded"), ("end", 7, names[1:], None)]
    assert session.waits == 0


def test_an_unknown_task_refuses_the_question(rig: Rig) -> None:
    """The name is said, and nothing else comes."""
    name = rig.submit()
    peer, session = ask(rig, [name, "t_nobody"])
    assert [(m["t"], m["code"]) for m in peer.heard] == [("error", "not-found")]
    assert "t_nobody" in peer.heard[0]["detail"]
    run(rig, 1)
    assert len(peer.heard) == 1
    assert session.waits == 0


def test_too_many_waits_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection cannot make the broker remember without a bound."""
    monkeypatch.setattr(each, "WAITS_PER_CONNECTION_MAX", 2)
    names = [rig.submit() for _ in range(3)]
    peer, session = ask(rig, names)
    assert [(m["t"], m["code"]) for m in peer.heard] == [("error", "queue-full")]
    assert session.waits == 0


def test_who_leaves_is_forgotten(rig: Rig) -> None:
    """Two ask for the same task; one goes, the other is answered."""
    name = rig.submit()
    _, gone = ask(rig, [name])
    peer, _ = ask(rig, [name])
    rig.broker.disconnected(gone)
    run(rig, 1)
    assert [m["t"] for m in peer.heard] == ["ended", "end"]
    assert gone.waits == 0


def test_what_does_not_fit_one_read_is_read_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large results do not fill the broker's memory all at once, and none is left out."""
    rooms: list[tuple[str, ...]] = []

    def narrow(tasks: tuple[str, ...]) -> Outcomes:
        rooms.append(tasks)
        return Outcomes(tasks, room=1_000)

    monkeypatch.setattr(each, "Outcomes", narrow)
    names = [rig.submit() for _ in range(4)]
    run(rig, 4, result="x" * 600)
    peer, _ = ask(rig, names)
    assert {m["task"] for m in peer.heard if m["t"] == "ended"} == set(names)
    assert [len(tasks) for tasks in rooms] == [4, 2]
