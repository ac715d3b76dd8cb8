"""One caller cannot fill another agent's queue; what it may not hand over now is tried again, and costs no attempt."""

from __future__ import annotations

from typing import Any

from broker_rig import Peer, Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.bus.bulkhead import Bulkhead
from sutazai.errors import RefusedError
from sutazai.store.model import Event, NewTask
from sutazai.wire.planfacts import AgentFacts

RETRY = {"base_ms": 100, "factor": 1, "max_ms": 100, "jitter": "none"}


def rig() -> Rig:
    """Agent ``a`` takes three open calls of one other agent."""
    agents = {
        name: AgentFacts(name, "/m", skills=[{"name": "do"}], instances_max=4, attempts_max=2, retry=RETRY, queue=queue)
        for name, queue in (("a", {"per_caller_max": 3}), ("b", {}), ("c", {}))
    }
    return Rig(agents=agents)


def turns(peer: Peer) -> list[dict[str, Any]]:
    """Turns that came; forgets what was heard."""
    found = [message for message in peer.heard if message["t"] == "turn"]
    peer.heard.clear()
    return found


def emit(broker: Rig, session: Any, got: dict[str, Any], count: int, agent: str = "a") -> None:
    """Commit a turn that hands on so many tasks, and ask for the next."""
    emits = [{"id": f"{got['task']['id']}-{n}", "agent": agent, "skill": "do"} for n in range(count)]
    broker.say(
        session,
        {"t": "commit", "id": 1, "task": got["task"]["id"], "fence": got["fence"], "outcome": "result",
         "emits": emits, "pull": True},
    )  # fmt: skip


def start(broker: Rig, agent: str) -> tuple[Peer, Any]:
    """An instance that asks for work."""
    peer, session = broker.instance(agent, f"k{agent}")
    broker.say(session, {"t": "pull"})
    return peer, session


def row(broker: Rig, task: str) -> tuple[Any, ...]:
    """Status, attempt and losses of a task."""
    found: tuple[Any, ...] = broker.store._connection.execute(
        "SELECT status, attempt, losses FROM tasks WHERE id = ?", (task,)
    ).fetchone()
    return found


def test_a_caller_at_its_bound_waits_and_others_are_served() -> None:
    """Its turn comes again with its attempt, as often as it takes; another caller is not touched."""
    broker = rig()
    first, second = broker.submit("b"), broker.submit("b")
    peer, session = start(broker, "b")
    emit(broker, session, turns(peer)[0], 3)
    assert broker.status(first) == "succeeded"
    (got,) = turns(peer)
    emit(broker, session, got, 1)
    assert row(broker, second) == (0, 0, 1)
    for _ in range(4):  # more often than it has attempts
        broker.pass_time(200)
        (got,) = turns(peer)
        assert got["task"]["attempt"] == 1
        emit(broker, session, got, 1)
    other = broker.submit("c")
    stranger, its = start(broker, "c")
    emit(broker, its, turns(stranger)[0], 3)
    assert broker.status(other) == "succeeded"
    callee, line = start(broker, "a")
    emit(broker, line, turns(callee)[0], 0)
    broker.pass_time(200)
    emit(broker, session, turns(peer)[0], 1)
    assert broker.status(second) == "succeeded"
    assert broker.broker.bulkhead.calls() == {("b", "a"): 3, ("c", "a"): 3}


def test_a_turn_that_alone_passes_the_bound_is_told_to_call_in_parts() -> None:
    """Trying again could not help."""
    broker = rig()
    task = broker.submit("b")
    peer, session = start(broker, "b")
    emit(broker, session, turns(peer)[0], 4)
    assert broker.status(task) == "failed"
    (error,) = broker.store._connection.execute("SELECT error FROM tasks WHERE id = ?", (task,)).fetchone()
    assert "calls a 4 times at once, its bound for one caller is 3 (queue.per_caller): call it in parts" in error


def test_a_new_broker_counts_what_is_open() -> None:
    """From the store; what a commit repeats is not counted twice."""
    broker = rig()
    broker.submit("b")
    peer, session = start(broker, "b")
    (got,) = turns(peer)
    emit(broker, session, got, 3)
    emit(broker, session, got, 3)
    assert broker.broker.bulkhead.open("b", "a") == 3
    agents = broker.broker.directory.agents
    broker.start(agents=agents)
    assert broker.broker.bulkhead.open("b", "a") == 3
    assert broker.broker.bulkhead.open("c", "a") == 0


_STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "store", "lose", "end", "move"]), st.integers(0, 11), st.booleans()), max_size=80
)


def event(task: str, agent: str, kind: str) -> Event:
    """Something that happened."""
    return Event(task, agent, 1, kind, 0, {})


@given(steps=_STEPS)
@settings(max_examples=150, deadline=None)
def test_counts_are_what_is_open_or_under_way(steps: list[tuple[str, int, bool]]) -> None:
    """In any order of commits, losses, takeovers and ends; and no caller ever passes its bound."""
    bulkhead, model, under_way = Bulkhead([], lambda _: 3), dict[str, tuple[str, str]](), set[str]()
    for what, number, flag in steps:
        name, caller = f"t{number}", "b" if number % 2 else "c"
        if what == "ask" and name not in model:
            callee = "a" if flag else "d"
            new = NewTask(name, callee, "do", "{}", 5, 1, 1)
            before = sum(pair == (caller, callee) for pair in model.values())
            try:
                assert bulkhead.ask(caller, (new,)) == [name]
                assert before < 3
                model[name] = (caller, callee)
                under_way.add(name)
            except RefusedError:
                assert before == 3
        elif name in model and name in under_way:
            under_way.discard(name)
            if what == "store":
                bulkhead.happened(event(name, model[name][1], "queued"))
            else:
                del model[name]
            bulkhead.settle([name])
        elif name in model and what == "end":
            bulkhead.happened(event(name, model.pop(name)[1], "succeeded" if flag else "cancelled"))
        elif name in model and what == "move":
            model[name] = (model[name][0], "e")
            bulkhead.happened(event(name, "e", "queued"))
        found: dict[tuple[str, str], int] = {}
        for pair in model.values():
            found[pair] = found.get(pair, 0) + 1
        assert bulkhead.calls() == found
