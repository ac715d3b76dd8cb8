"""Each runtime speaks the protocol: one suite, a real broker, a real worker; the cases stand in docs/reference."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host.languages import LANGUAGES, RUNTIMES
from sutazai.ids import child_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SPEC = importlib.util.spec_from_file_location("conformance_rig", Path(__file__).parent / "rig.py")
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("rig.py is gone")
rig_module = importlib.util.module_from_spec(_SPEC)
sys.modules["conformance_rig"] = rig_module
_SPEC.loader.exec_module(rig_module)
Rig = rig_module.Rig

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))


def _needed(runtime: Any) -> None:
    if runtime.hosts:
        language = LANGUAGES[runtime.name]
        program, why = language.find()
        if not program:
            pytest.skip(f"{why}; {language.hint}")


@pytest.fixture(scope="module", params=rig_module.RUNTIMES, ids=lambda runtime: str(runtime.name))
def runtime(request: pytest.FixtureRequest) -> Any:
    """A runtime that can run here."""
    _needed(request.param)
    return request.param


@pytest.fixture(scope="module")
def shared(runtime: Any) -> Iterator[Any]:
    """One instance for all cases that leave it as it was."""
    with Rig(runtime) as found:
        yield found


@pytest.fixture
def rig(shared: Any) -> Iterator[Any]:
    """The shared instance, with a relay that changes nothing."""
    yield shared
    shared.relay.to_broker = shared.relay.to_instance = lambda message: [message]


@pytest.fixture
def fresh(runtime: Any) -> Iterator[Any]:
    """An instance for one case that ends it."""
    with Rig(runtime) as found:
        yield found


def test_result(rig: Any) -> None:
    """A skill's value is the task's result, whatever JSON it is."""
    value = {"text": "grüße ☃", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}}
    task = rig.run("echo", {"value": value})
    assert (task["status"], task["result"], task["attempt"]) == ("succeeded", {"value": value}, 1)


def test_wait_and_continuation(rig: Any) -> None:
    """Children have the ids that every language computes, and come back in order in a new turn."""
    task = rig.run("fan", {"parts": 3})
    site = "conformance\x1f\x1f\x1f0\x1fconformance\x1fecho\x1f"
    wanted = [child_task_id(task["id"], site, index) for index in range(3)]
    assert task["status"] == "succeeded", task
    assert task["result"] == {"ids": wanted, "values": [0, 1, 2], "parts": 3}
    assert [turn["outcome"] for turn in rig.turns(task["id"])] == ["wait", "result"]


def test_wait_for_nothing(rig: Any) -> None:
    """A wait without calls goes on at once, in the same turn."""
    task = rig.run("fan", {"parts": 0})
    assert task["result"] == {"ids": [], "values": [], "parts": 0}
    assert len(rig.turns(task["id"])) == 1


def test_state_and_its_version(rig: Any) -> None:
    """The session's state is kept and its version grows by one with each change; a failure changes nothing."""
    assert rig.run("remember", {"value": 1}, session="s")["result"] == {"values": [1]}
    assert rig.run("remember", {"value": "b"}, session="s")["result"] == {"values": [1, "b"]}
    assert rig.state("s") == ({"values": [1, "b"]}, 2)
    rig.run("echo", {"value": 1}, session="s")
    assert rig.state("s") == ({"values": [1, "b"]}, 2)


def test_state_without_a_session(rig: Any) -> None:
    """It is an error for good, and told as one."""
    task = rig.run("remember", {"value": 1})
    assert (task["status"], task["error"]["code"]) == ("failed", "non-retryable")


def test_checkpoint(rig: Any) -> None:
    """Each is stored while the turn goes on; the turn ends with the version that follows."""
    task = rig.submit("steps", {"count": 3, "ms": 600}, session="c")
    rig.until(lambda: rig.state("c")[1] == 3, "three checkpoints")
    assert rig.state("c")[0] == {"done": 3}
    ended = rig.ended(task)
    assert ended["result"] == {"done": 3, "attempt": 1}
    assert [each["outcome"] for each in rig.spoke("commit", task)] == ["checkpoint"] * 3 + ["result"]


@pytest.mark.parametrize(
    ("for_good", "status", "code", "attempts"),
    [(True, "failed", "non-retryable", 1), (False, "dead", "skill-failed", 2)],
)
def test_failed(rig: Any, for_good: bool, status: str, code: str, attempts: int) -> None:  # noqa: FBT001
    """What may be tried again is, until its attempts are used; what failed for good is not."""
    task = rig.run("fail", {"for_good": for_good}, attempts_max=2)
    assert (task["status"], task["error"]["code"], task["attempt"]) == (status, code, attempts)
    assert "for good" in task["error"]["message"] or "this time" in task["error"]["message"]


@pytest.mark.parametrize("data", [{"number": 6}, {"number": "x"}, {}])
def test_input_that_does_not_fit(rig: Any, data: dict[str, Any]) -> None:
    """It fails for good, before the skill runs, and names the field."""
    task = rig.run("strict", data)
    assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", "invalid-input", 1)
    assert "number" in task["error"]["message"]


def test_unknown_skill(rig: Any) -> None:
    """It fails for good, and the others are named."""
    task = rig.run("nothing", {})
    assert (task["status"], task["error"]["code"]) == ("failed", "not-found")
    assert "echo" in task["error"]["message"]


def test_result_that_is_too_large(rig: Any) -> None:
    """A runtime that uploads has it in a file; one that does not sends nothing that the broker could not take."""
    task = rig.run("large", {"bytes": 5 << 20})
    if next(message for message in rig.relay.said if message["t"] == "hello").get("files"):
        assert (task["status"], task["result"]) == ("succeeded", None)
        assert task["result_ref"]["bytes"] > 5 << 20
    else:
        assert (task["status"], task["error"]["code"]) == ("failed", "invalid-output")
    assert rig.run("large", {"bytes": 2 << 20})["status"] == "succeeded"


def test_result_of_a_child_that_is_too_large(rig: Any) -> None:
    """A runtime that reads files gets all of it; for another one nothing comes that is not the result."""
    task = rig.run("gather", {"bytes": 5 << 20})
    if next(message for message in rig.relay.said if message["t"] == "hello").get("files"):
        assert (task["status"], task["result"]) == ("succeeded", {"bytes": 5 << 20})
    else:
        assert task["status"] in {"failed", "dead", "queued"}


@pytest.mark.parametrize("skill", ["slow", "busy"])
def test_cancel_in_the_turn(rig: Any, skill: str) -> None:
    """The turn is given up within two seconds, also one that never pauses, and the instance goes on."""
    task = rig.submit(skill, {"ms": 60_000})
    rig.begun(task)
    assert rig.client.request({"t": "cancel", "task": task}, 30)["task"]["status"] == "cancelled"
    assert rig.run("echo", {"value": skill})["status"] == "succeeded"
    assert not rig.spoke("commit", task)


def test_heartbeats_and_progress(rig: Any) -> None:
    """A turn longer than its lease is kept alive, at least every heartbeat_ms, and its progress is an event."""
    task = rig.submit("slow", {"ms": 2 * rig_module.LEASE_MS})
    ended = rig.ended(task)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    beats = rig.spoke("heartbeat", task)
    assert len(beats) >= 4
    assert {"fraction": 0.5, "text": "half way"} in [beat["progress"] for beat in beats]
    connection = rig.broker.client()
    connection.send({"t": "watch", "id": 900, "task": task})
    kinds = []
    while (incoming := connection.receive(30)) is not None and incoming[0]["t"] != "end":
        kinds.append(incoming[0]["event"]["kind"])
    connection.close()
    assert "progress" in kinds


def test_deadline(rig: Any) -> None:
    """A turn stops at its task's deadline, by whoever's clock comes first."""
    task = rig.run("slow", {"ms": 60_000}, deadline_ms=700)
    assert task["status"] == "expired"
    assert rig.run("echo", {"value": 1})["status"] == "succeeded"


def test_connection_lost_in_the_turn(rig: Any) -> None:
    """The instance runs on, comes back with the turn that it holds, and its result counts."""
    task = rig.submit("slow", {"ms": 1_000})
    turn = rig.begun(task)
    rig.relay.cut()
    ended = rig.ended(task)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert {"task": task, "fence": turn["fence"]} in [each["held"] for each in rig.spoke("hello")]
    assert len(rig.turns(task)) == 1


def test_answer_to_the_commit_lost(rig: Any) -> None:
    """The commit is said again with the same fence over the next connection, and stored once."""

    def lose(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["t"] != "committed":
            return [message]
        rig.relay.to_instance = lambda each: [each]
        rig.relay.cut()
        return []

    rig.relay.to_instance = lose
    task = rig.submit("remember", {"value": 1}, session="lost")
    assert rig.ended(task)["status"] == "succeeded"
    rig.until(lambda: len(rig.spoke("commit", task)) == 2, "a second commit")
    assert len({each["fence"] for each in rig.spoke("commit", task)}) == 1
    assert rig.run("remember", {"value": 2}, session="lost")["result"] == {"values": [1, 2]}
    assert rig.state("lost")[1] == 2


def test_broker_killed_in_the_turn(rig: Any) -> None:
    """After its kill -9 and a restart the turn goes on and counts once."""
    task = rig.submit("slow", {"ms": 1_800})
    rig.begun(task)
    rig.client.close()
    rig.broker.kill()
    rig.relay.cut()
    rig.broker.start()
    rig.client = rig.broker.client()
    ended = rig.ended(task)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)


def test_fields_that_nobody_knows(rig: Any) -> None:
    """A newer broker may say more: it is ignored."""

    def more(message: dict[str, Any]) -> list[dict[str, Any]]:
        inner = {"task": {**message["task"], "novelty": [1]}} if message["t"] == "turn" else {}
        return [{**message, **inner, "novelty": {"a": 1}}]

    rig.relay.to_instance = more
    assert rig.run("fan", {"parts": 2})["result"]["values"] == [0, 1]


def test_another_version(rig: Any) -> None:
    """Refused by the broker, the instance neither ends nor floods it, and is there when the versions fit."""
    rig.relay.to_broker = lambda message: [{**message, "v": 2} if message["t"] == "hello" else message]
    before = len(rig.spoke("hello"))
    rig.relay.cut()
    rig.until(lambda: len(rig.spoke("hello")) >= before + 3, "more tries")
    refused = [each for each in rig.relay.heard if each["t"] == "error"]
    assert refused
    assert refused[-1]["code"] == "protocol"
    rig.relay.to_broker = lambda message: [message]
    assert rig.run("echo", {"value": 1})["status"] == "succeeded"


def test_told_to_stay(rig: Any) -> None:
    """Asked to rest it asks whether it may leave; told to stay it pulls again and works."""

    def stay(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"t": "stay", "re": message["re"]} if message["t"] == "bye" else message]

    rig.relay.to_instance = stay
    before = len(rig.spoke("hibernate")), len(rig.spoke("pull"))
    rig.relay.inject({"t": "rest"})
    rig.until(lambda: len(rig.spoke("hibernate")) > before[0] and len(rig.spoke("pull")) > before[1], "a pull")
    assert not rig.left()


def test_rest(fresh: Any) -> None:
    """Memory is wanted: an idle instance asks, is told bye, and ends in good order."""
    assert fresh.run("echo", {"value": 1})["status"] == "succeeded"
    fresh.relay.inject({"t": "rest"})
    fresh.until(fresh.left, "the end")
    assert fresh.told("bye")


def test_drain(fresh: Any) -> None:
    """The turn is finished and counts; then the instance leaves, and takes no other one."""
    task = fresh.submit("slow", {"ms": 700})
    fresh.begun(task)
    fresh.relay.inject({"t": "drain"})
    assert fresh.ended(task)["status"] == "succeeded"
    fresh.until(fresh.left, "the end")


def test_hibernates_when_idle(runtime: Any) -> None:
    """After its keep time it leaves by itself."""
    with Rig(runtime, keep_ms=300) as rig:
        assert rig.run("echo", {"value": 1})["status"] == "succeeded"
        rig.until(rig.left, "the end")
        assert rig.spoke("hibernate")


@pytest.fixture
def hosting(runtime: Any) -> Any:
    """A runtime whose worker hosts."""
    if not runtime.hosts:
        pytest.skip("Python's workers fork their instances: tests/integration/test_zygote.py")
    return runtime


def test_end_at_once(hosting: Any) -> None:
    """An order to end leaves nothing of a turn, blocking or not, and is answered within two seconds."""
    with Rig(hosting) as rig:
        task = rig.submit("busy", {"ms": 60_000})
        rig.begun(task)
        rig.tell({"push": "end", "ticket": rig_module.TICKET, "grace_ms": 0})
        rig.until(rig.left, "the end")
        assert not rig.spoke("commit", task)


def test_end_with_grace(hosting: Any) -> None:
    """An order to end with time lets the turn finish and count."""
    with Rig(hosting) as rig:
        task = rig.submit("slow", {"ms": 500})
        rig.begun(task)
        rig.tell({"push": "end", "ticket": rig_module.TICKET, "grace_ms": 5_000})
        assert rig.ended(task)["status"] == "succeeded"
        rig.until(rig.left, "the end")


def _node(vectors: list[dict[str, Any]]) -> list[str]:
    program, _ = LANGUAGES["node"].find()
    code = (
        f"import {{ childTaskId }} from {json.dumps(str(RUNTIMES / 'node/context.mjs'))};"
        "console.log(JSON.stringify(JSON.parse(process.argv[1]).map((v) => childTaskId(v.parent, v.site, v.index))));"
    )
    command = [program, "--input-type=module", "-e", code, json.dumps(vectors)]
    found: list[str] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return found


def _go(vectors: list[dict[str, Any]]) -> list[str]:
    program, _ = LANGUAGES["go"].find()
    done = subprocess.run([program, "ids"], input=json.dumps(vectors), capture_output=True, check=True, text=True)
    found: list[str] = json.loads(done.stdout)
    return found


#: How a language computes the vectors.
COMPUTE: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "python": lambda vectors: [child_task_id(each["parent"], each["site"], each["index"]) for each in vectors],
    "node": _node,
    "go": _go,
}


@pytest.mark.parametrize("name", COMPUTE)
def test_vectors(name: str) -> None:
    """Ids of children are the same in every language."""
    _needed(next(each for each in rig_module.RUNTIMES if each.name == name))
    vectors = VECTORS["child_task_id"]
    assert COMPUTE[name](vectors) == [each["id"] for each in vectors]
