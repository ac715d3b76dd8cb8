"""While an agent's circuit is open its tasks wait and keep their attempts; what is not its fault never opens it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from broker_rig import Peer, Rig

from sutazai.limits import RETRY_BUDGET_BURST
from sutazai.wire.planfacts import AgentFacts

RETRY = {"base_ms": 100, "factor": 1, "max_ms": 100, "jitter": "none"}


def facts(name: str = "a", **fields: Any) -> AgentFacts:
    """What the plan says of an agent."""
    breaker = {"failures": 3, "pause_ms": 4_000, "timeout_ms": 1_000, **fields.pop("breaker", {})}
    return AgentFacts(
        name, "/m", skills=[{"name": "do"}], instances_max=4, **{"breaker": breaker, "retry": RETRY, **fields}
    )


def rig(**fields: Any) -> Rig:
    """A broker whose agent has a breaker that opens after three tasks."""
    return Rig(agents={"a": facts(**fields)})


def worker(broker: Rig, ticket: str = "k1") -> tuple[Peer, Any]:
    """An instance that asks for work."""
    peer, session = broker.instance("a", ticket)
    broker.say(session, {"t": "pull"})
    return peer, session


def turn(peer: Peer) -> dict[str, Any]:
    """The turn that an instance was given; forgets what it heard."""
    (found,) = [message for message in peer.heard if message["t"] == "turn"]
    peer.heard.clear()
    return found


def end(broker: Rig, session: Any, got: dict[str, Any], code: str = "", *, retryable: bool = True) -> None:
    """End a turn, well or with an error, and ask for the next one."""
    message = {"t": "commit", "id": 1, "task": got["task"]["id"], "fence": got["fence"], "pull": True}
    error = {"code": code, "message": "no", "retryable": retryable}
    broker.say(session, {**message, "outcome": "failed", "error": error} if code else {**message, "outcome": "result"})


def get(broker: Rig, task: str) -> dict[str, Any]:
    """Read a task as a client."""
    peer, session = broker.client()
    broker.say(session, {"t": "get", "id": 1, "task": task})
    found: dict[str, Any] = peer.heard.pop()["task"]
    return found


def fail_all(broker: Rig, peer: Peer, session: Any, code: str = "skill-failed", **fields: Any) -> None:
    """Fail three tasks, one after the other."""
    for _ in range(3):
        end(broker, session, turn(peer), code, **fields)


def state(broker: Rig) -> str:
    """Of the agent's breaker."""
    return str(broker.broker.statistics().breakers.get("a", {}).get("state", "closed"))


def test_an_open_circuit_keeps_tasks_and_their_attempts_until_a_probe_succeeds() -> None:
    """The fourth task is not even tried; in time one probe starts, and when it is well all others follow."""
    broker = rig()
    tasks = [broker.submit() for _ in range(6)]
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    assert state(broker) == "open"
    assert [message["t"] for message in peer.heard if message["t"] == "turn"] == []
    waiting = get(broker, tasks[3])
    assert (waiting["status"], waiting["attempt"]) == ("queued", 0)
    assert waiting["why"].startswith("the circuit of a is open (3 tasks failed one after the other): next probe in ")
    assert get(broker, tasks[0])["attempt"] == 1
    other, line = worker(broker, "k2")
    broker.pass_time(4_000)
    probes = [message for each in (peer, other) for message in each.heard if message["t"] == "turn"]
    assert len(probes) == 1, "one probe, whoever waits"
    assert state(broker) == "half-open"
    assert "half-open" in get(broker, tasks[5])["why"]
    (prober, at) = (peer, session) if any(m["t"] == "turn" for m in peer.heard) else (other, line)
    end(broker, at, turn(prober))
    assert state(broker) == "closed"
    for _ in range(20):
        for each, its in ((peer, session), (other, line)):
            if any(message["t"] == "turn" for message in each.heard):
                end(broker, its, turn(each))
    assert [broker.status(task) for task in tasks] == ["succeeded"] * 6


def test_nobody_is_woken_for_an_open_circuit_and_one_for_a_probe() -> None:
    """Instances cost memory: none is asked for while nothing may start, then one."""
    broker = rig(breaker={"pause_ms": 8_000})
    broker.broker.linked(up=True)
    for _ in range(6):
        broker.submit()
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    for answered in filter(None, broker.answers):
        answered({"ok": True, "status": "yes"})
    broker.asked.clear()
    broker.broker.disconnected(session)
    broker.pass_time(3_000)
    assert [ask for ask in broker.asked if ask["op"] == "wake"] == []
    broker.pass_time(6_000)
    assert {ask["want"] for ask in broker.asked if ask["op"] == "wake"} == {1}


def test_an_idle_instance_may_hibernate_while_the_circuit_is_open() -> None:
    """There is work, and none that may start soon."""
    broker = rig(breaker={"pause_ms": 60_000, "pause_ms_max": 60_000})
    for _ in range(6):
        broker.submit()
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    peer.heard.clear()
    broker.say(session, {"t": "hibernate", "id": 9})
    assert peer.kinds() == ["bye"]


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("invalid-input", False), ("non-retryable", False), ("not-found", False), ("queue-full", True),
        ("circuit-open", True), ("callee-failed", True),
    ],
)  # fmt: skip
def test_bad_input_and_the_fault_of_others_never_open_it(code: str, retryable: bool) -> None:  # noqa: FBT001
    """Users' complaint about breakers elsewhere: ten wrong requests and nobody is served."""
    broker = rig()
    for _ in range(12):
        broker.submit()
    peer, session = worker(broker)
    for _ in range(12):
        end(broker, session, turn(peer), code, retryable=retryable)
    assert state(broker) == "closed"


def test_one_poisoned_task_never_opens_it() -> None:
    """It kills its instance at every attempt; it alone ends, as a dead letter."""
    broker = rig(attempts_max=8, breaker={"failures": 2})
    task = broker.submit()
    peer, session = worker(broker)
    for _ in range(8):
        end(broker, session, turn(peer), "skill-failed")
        broker.pass_time(200)
    assert broker.status(task) == "dead"
    assert state(broker) == "closed"


def test_cancelled_tasks_and_deadlines_of_impatient_callers_do_not_count() -> None:
    """A turn that got 300 ms to run says nothing of the agent; one that had its second does."""
    broker = rig()
    for _ in range(4):
        broker.submit(deadline_ms=300)
        peer, _ = worker(broker, "k")
        turn(peer)
        broker.pass_time(600)
    assert state(broker) == "closed"
    for number in range(3):
        broker.submit(deadline_ms=1_500)
        peer, _ = worker(broker, f"hang{number}")
        turn(peer)
        broker.pass_time(2_000)
    assert state(broker) == "open"


def test_what_expires_in_the_queue_is_not_the_agents_fault() -> None:
    """Nobody ran it."""
    broker = rig()
    tasks = [broker.submit(deadline_ms=2_000) for _ in range(5)]
    broker.pass_time(3_000)
    assert {broker.status(task) for task in tasks} == {"expired"}
    assert state(broker) == "closed"


def test_callers_are_refused_while_it_is_open_if_the_manifest_says_so() -> None:
    """With the reason and when to come back; and the way out of half-open is not blocked."""
    broker = rig(breaker={"when_open": "refuse"})
    for _ in range(3):
        broker.submit()
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    caller, line = broker.client()
    broker.say(line, {"t": "submit", "id": 7, "tasks": [{"agent": "a", "skill": "do"}]})
    answer = caller.heard.pop()
    assert (answer["t"], answer["code"]) == ("error", "circuit-open")
    assert 1 <= answer["retry_after_s"] <= 4
    assert "the circuit of a is open" in answer["detail"]
    assert broker.broker.statistics().breakers["a"]["refused"] == 1
    broker.pass_time(4_100)
    end(broker, session, turn(peer))
    broker.say(line, {"t": "submit", "id": 8, "tasks": [{"agent": "a", "skill": "do"}]})
    assert caller.heard.pop()["t"] == "accepted"


def test_a_restarted_broker_begins_closed_and_opens_again_after_as_few_tasks() -> None:
    """The state is not kept; nothing that waited is lost by that."""
    broker = rig()
    tasks = [broker.submit() for _ in range(7)]
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    broker.start(agents={"a": facts()})
    assert state(broker) == "closed"
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    assert state(broker) == "open"
    assert {broker.status(task) for task in tasks} == {"queued"}
    assert sum(get(broker, task)["attempt"] for task in tasks) == 6


def test_a_new_plan_takes_effect_and_an_unchanged_one_forgets_nothing() -> None:
    """The breaker is switched off: everything goes."""
    broker = rig()
    for _ in range(5):
        broker.submit()
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    broker.broker.replan({"a": facts()})
    broker.settle()
    assert state(broker) == "open"
    broker.broker.replan({"a": facts(breaker={"enabled": False})})
    broker.settle()
    assert turn(peer)["task"]["attempt"] == 1


def test_retries_beyond_the_budget_wait_longer_and_say_why() -> None:
    """No retry storm: sixty tasks fail; fifty come back after their pause, the others one a second; none is lost."""
    count = RETRY_BUDGET_BURST + 10
    broker = rig(breaker={"enabled": False}, retry={**RETRY, "budget": 0.0, "least_us": 1_000_000})
    tasks = [broker.submit() for _ in range(count)]
    peer, session = worker(broker)
    for _ in range(count):
        end(broker, session, turn(peer), "skill-failed")
    late = [task for task in (get(broker, name) for name in tasks) if task["due_in_ms"] > 200]
    assert len(late) == 10
    assert late[0]["why"].startswith("the retry budget of a is used up: next attempt in ")
    told = broker.broker.statistics().budgets["a"]
    assert (told["tokens"], told["delayed"]) == (-10, 10)
    for _ in range(60):
        broker.pass_time(1_000)
        while any(message["t"] == "turn" for message in peer.heard):
            end(broker, session, turn(peer))
    assert {broker.status(task) for task in tasks} == {"succeeded"}


# Calls


def callers(**breaker: Any) -> Rig:
    """A broker with a caller ``c``, an agent ``a`` that can break, and one that steps in."""
    return Rig(agents={"a": facts(breaker=breaker), "b": facts("b"), "c": facts("c")})


def break_a(broker: Rig) -> tuple[Peer, Any]:
    """Open the circuit of ``a``; gives its instance."""
    for _ in range(3):
        broker.submit()
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    assert state(broker) == "open"
    return peer, session


def call(broker: Rig, *calls: dict[str, Any], waits: bool = True, deadline_ms: int = 600_000) -> tuple[Peer, Any]:
    """Let a turn of ``c`` call ``a``, and wait for all of that; gives its instance."""
    broker.submit("c", deadline_ms=deadline_ms)
    peer, session = broker.instance("c", "kc")
    broker.say(session, {"t": "pull"})
    got = turn(peer)
    emits = [{"id": f"call{number}", "agent": "a", "skill": "do", **fields} for number, fields in enumerate(calls)]
    wait = {"tasks": [emit["id"] for emit in emits], "then": "go_on"}
    outcome = {"outcome": "wait", "wait": wait} if waits else {"outcome": "result"}
    commit = {"t": "commit", "id": 1, "task": got["task"]["id"], "fence": got["fence"], "pull": True}
    broker.say(session, {**commit, **outcome, "emits": emits})
    return peer, session


def results(peer: Peer) -> list[dict[str, Any]]:
    """What the caller's next turn got."""
    found: list[dict[str, Any]] = turn(peer)["task"]["results"]
    return found


def test_a_call_with_a_fallback_has_it_at_once_while_the_circuit_is_open() -> None:
    """The caller goes on in the same moment; the result says why it is a fallback."""
    broker = callers()
    break_a(broker)
    peer, _ = call(broker, {"fallback": {"value": [1]}})
    (result,) = results(peer)
    assert (result["status"], result["result"]) == ("succeeded", [1])
    assert result["fallback"]["error"]["code"] == "circuit-open"
    assert "the circuit of a is open (3 tasks failed" in result["fallback"]["error"]["message"]
    assert broker.broker.statistics().totals["fallbacks"] == 1
    assert broker.broker.statistics().breakers["a"]["refused"] == 1


def test_a_call_waits_for_an_open_circuit_unless_it_is_to_be_refused() -> None:
    """Nothing is lost by waiting; who cannot wait says so and gets an error that names the circuit."""
    broker = callers(pause_ms=2_000)
    helper, session = break_a(broker)
    peer, _ = call(broker, {}, {"when_open": "refuse"})
    assert [broker.status(name) for name in ("call0", "call1")] == ["queued", "failed"]
    error = get(broker, "call1")["error"]
    assert (error["code"], error["retryable"]) == ("circuit-open", True)
    assert error["message"].startswith("the circuit of a is open")
    broker.pass_time(2_000)
    while any(message["t"] == "turn" for message in helper.heard):
        end(broker, session, turn(helper))
    assert [result["status"] for result in results(peer)] == ["succeeded", "failed"]


def test_a_call_that_would_be_over_before_the_next_probe_is_told_at_once() -> None:
    """By its own deadline or by its caller's: it could only expire. What nobody waits for stays, whatever its time."""
    for deadline_ms, fields in ((600_000, {"deadline_ms": 500}), (900, {})):
        broker = callers(pause_ms=8_000)
        break_a(broker)
        peer, _ = call(broker, fields, deadline_ms=deadline_ms)
        (result,) = results(peer)
        assert (result["status"], result["error"]["code"]) == ("failed", "circuit-open")
    broker = callers(pause_ms=8_000)
    break_a(broker)
    call(broker, {"deadline_ms": 500}, waits=False)
    assert broker.status("call0") == "queued"


def test_what_waits_when_the_circuit_opens_takes_its_fallback_then() -> None:
    """A call that was queued before: a value, or the agent that steps in; what has none waits on."""
    broker = callers()
    peer, session = worker(broker)
    tasks = [broker.submit() for _ in range(3)]
    other = {"fallback": {"agent": "b", "skill": "do", "input": {"n": 1}}}
    waiting, line = call(broker, {"fallback": {"value": 5}}, other, {})
    fail_all(broker, peer, session)
    assert [broker.status(f"call{number}") for number in range(3)] == ["succeeded", "queued", "queued"]
    assert get(broker, "call1")["agent"] == "b"
    stand_in, its = broker.instance("b", "kb")
    broker.say(its, {"t": "pull"})
    got = turn(stand_in)
    assert (got["task"]["id"], got["task"]["input"]) == ("call1", {"n": 1})
    end(broker, its, got)
    assert [result["t"] for result in waiting.heard if result["t"] == "turn"] == [], "the third is waited for"
    assert [broker.status(task) for task in tasks] == ["queued"] * 3
    assert not line.closed


def test_a_fallback_counts_as_the_failure_that_it_hides() -> None:
    """The caller is served, and yet the agent is broken: its circuit opens."""
    broker = callers()
    call(broker, *({"attempts_max": 1, "fallback": {"value": 0}} for _ in range(3)))
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    assert {broker.status(f"call{number}") for number in range(3)} == {"succeeded"}
    assert state(broker) == "open"
    assert broker.broker.statistics().queues["a"]["dead"] == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fallback": {}}, "a value, or another agent"),
        ({"fallback": {"value": 1, "agent": "b", "skill": "do"}}, "give one of them"),
        ({"fallback": {"agent": "bb", "skill": "do"}}, "did you mean b?"),
        ({"fallback": {"agent": "b", "skill": "dance"}}, "no skill 'dance'"),
        ({"fallback": {"agent": "b", "skill": "do"}, "session": "s"}, "belongs to its agent"),
        ({"fallback": {"agent": "b", "skill": "do"}, "idempotency_key": "k"}, "belongs to its agent"),
        ({"fallback": {"value": "x" * 5_000_000}}, "value of a fallback is above"),
        ({"when_open": "drop"}, "when_open"),
    ],
)
def test_a_fallback_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    """From outside at once; of a turn it fails the turn for good, with the same words."""
    broker = callers()
    caller, line = broker.client()
    broker.say(line, {"t": "submit", "id": 1, "tasks": [{"agent": "a", "skill": "do", **fields}]})
    answer = caller.heard.pop()
    assert answer["t"] == "error"
    assert words in answer["detail"]
    call(broker, fields)
    (task,) = broker.store._connection.execute("SELECT error FROM tasks WHERE agent = 'c'").fetchall()
    assert words in task[0]


def test_a_scatter_over_broken_and_well_agents_has_partial_results() -> None:
    """Degraded, not dead: what is well answers, what is broken says so or gives its fallback, nobody waits for it."""
    broker = callers(pause_ms=60_000, pause_ms_max=60_000)
    break_a(broker)
    peer, _ = call(
        broker, {"when_open": "refuse"}, {"fallback": {"value": "stale"}}, {"agent": "b"}, {"agent": "b"},
    )  # fmt: skip
    stand_in, its = broker.instance("b", "kb")
    broker.say(its, {"t": "pull"})
    end(broker, its, turn(stand_in))
    end(broker, its, turn(stand_in), "non-retryable", retryable=False)
    found = results(peer)
    assert [result["status"] for result in found] == ["failed", "succeeded", "succeeded", "failed"]
    assert [result["fallback"] is not None for result in found] == [False, True, False, False]


def test_what_is_waited_for_has_no_more_time_than_who_waits() -> None:
    """A day was asked for; the caller has two seconds. What nobody waits for keeps its own time."""
    broker = callers()
    call(broker, {"deadline_ms": 86_400_000}, deadline_ms=2_000)
    assert get(broker, "call0")["deadline_left_ms"] <= 2_000
    broker.pass_time(2_100)
    assert broker.status("call0") == "cancelled"
    broker = callers()
    call(broker, {"deadline_ms": 86_400_000}, waits=False, deadline_ms=2_000)
    assert get(broker, "call0")["deadline_left_ms"] == 86_400_000


def test_a_probe_that_fails_costs_its_task_no_attempt_and_the_next_is_another() -> None:
    """An outage longer than attempts times pauses wears nobody out; a crash of a probe counts the same."""
    broker = rig(attempts_max=2)
    tasks = [broker.submit(deadline_ms=86_400_000) for _ in range(6)]
    peer, session = worker(broker)
    fail_all(broker, peer, session)
    probes = []
    for number in range(6):
        broker.pass_time(broker.broker.guards.wait_ms("a") + 1)
        got = turn(peer)
        probes.append(got["task"]["id"])
        if number % 2:
            end(broker, session, got, "skill-failed")
        else:
            broker.broker.disconnected(session)
            broker.settle()
            peer, session = worker(broker, f"again{number}")
    assert all(one != other for one, other in itertools.pairwise(probes))
    assert {broker.status(task) for task in tasks} == {"queued"}
    assert max(get(broker, task)["attempt"] for task in tasks) == 1
    assert state(broker) == "open"
