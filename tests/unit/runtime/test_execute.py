"""Whatever agent code does, a turn ends in one commit of the right kind."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from sutazai.errors import InvalidInputError, NonRetryableError, SkillError, UnavailableError
from sutazai.limits import CARRY_BYTES_MAX, TASK_RESULT_BYTES_MAX
from sutazai.runtime import Agent, Context, Result, Wait
from sutazai.runtime import execute as execute_module
from sutazai.runtime.context import Surroundings
from sutazai.runtime.execute import TurnCancelledError, execute
from sutazai.runtime.log import Log
from sutazai.runtime.parts import download
from sutazai.runtime.turn import Commit, TaskInfo, Turn, read_turn, result_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

agent = Agent("a")
ACTIONS: dict[str, Callable[[Context], Any]] = {}


class Report(BaseModel):
    """A result."""

    total: int


@agent.skill
def act(ctx: Context, what: str) -> Report | Wait[Report]:
    """Do what the test says."""
    found: Report = ACTIONS[what](ctx)
    return found


@agent.skill
def anything(ctx: Context) -> Any:
    """Do what the test says."""
    return ACTIONS["anything"](ctx)


@agent.step
def collect(ctx: Context, results: list[Result], carry: dict[str, int]) -> Report | Wait[Report]:
    """Add up, and wait again when told so."""
    if "again" in carry:
        return Wait([], then=collect, carry={"total": carry["again"]})
    return Report(total=carry.get("total", 0) + sum(result.require() for result in results))


def run(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Run it here."""
    return function(**arguments)


def ask(action: Callable[[Context], Any] | None = None, **fields: Any) -> Commit:
    """Run one turn."""
    ACTIONS["x"] = ACTIONS["anything"] = action or (lambda _: Report(total=1))
    task = TaskInfo(
        "t_1", "a", fields.pop("skill", "act"), session=fields.pop("session", ""), step=fields.pop("step", "")
    )
    turn = Turn(task, fields.pop("input", {"what": "x"}), 7, 1e12, 1_000, **fields)
    return execute(agent, turn, Context(turn, Surroundings()), run)


def failing(error: BaseException) -> Callable[[Context], Any]:
    """Make an action that raises."""

    def act(_: Context) -> Any:
        raise error

    return act


def test_a_result() -> None:
    """A result is validated by its type and written as JSON, with the emitted tasks and the changed state."""

    def work(ctx: Context) -> Report:
        ctx.emit("b", "s", {"x": 1})
        ctx.state["n"] = 1
        return Report(total=3)

    commit = ask(work, session="z", state={})
    assert (commit.outcome, commit.result, commit.state) == ("result", {"total": 3}, {"n": 1})
    assert [entry["agent"] for entry in commit.emits] == ["b"]
    assert ask(lambda _: {"total": 3}).result == {"total": 3}


def test_a_wait() -> None:
    """A wait becomes the ids of its calls, the step and the carry; its calls are emitted, others are not."""

    def work(ctx: Context) -> Any:
        ctx.call("b", "never")
        return Wait([ctx.call("b", "s"), ctx.call("b", "s")], then=collect, carry={"total": 1})

    commit = ask(work)
    assert commit.outcome == "wait"
    assert commit.wait is not None
    assert commit.wait["tasks"] == [entry["id"] for entry in commit.emits]
    assert (commit.wait["then"], commit.wait["carry"]) == ("collect", {"total": 1})
    assert [entry["skill"] for entry in commit.emits] == ["s", "s"]


def test_a_wait_for_nothing_goes_on_at_once() -> None:
    """A map over an empty list needs no other turn: the step runs in this one, as often as it takes."""
    commit = ask(lambda _: Wait([], then=collect, carry={"again": 5}))
    assert (commit.outcome, commit.result) == ("result", {"total": 5})


def test_a_step() -> None:
    """The next turn runs the step with the results and the carry."""
    results = [Result("t_2", "b", "s", "succeeded", 2), Result("t_3", "b", "s", "succeeded", 3)]
    commit = ask(step="collect", results=results, carry={"total": 1})
    assert (commit.outcome, commit.result) == ("result", {"total": 6})


@pytest.mark.parametrize(
    ("error", "code", "retryable", "text"),
    [
        (ValueError("boom"), "skill-failed", True, "ValueError: boom"),
        (ValueError(), "skill-failed", True, "ValueError"),
        (NonRetryableError("no use"), "non-retryable", False, "no use"),
        (UnavailableError("away"), "unavailable", True, "away"),
        (InvalidInputError("odd"), "invalid-input", False, "odd"),
        (SystemExit(3), "skill-failed", True, r"sys\.exit\(3\)"),
        (KeyboardInterrupt(), "skill-failed", True, "KeyboardInterrupt"),
        (GeneratorExit(), "skill-failed", True, "GeneratorExit"),
        (MemoryError(), "skill-failed", True, "MemoryError"),
        (ValueError("half \ud800"), "skill-failed", True, "half"),
    ],
)
def test_what_is_raised(error: BaseException, code: str, retryable: bool, text: str) -> None:  # noqa: FBT001 the table's
    """Every exception, also those that end a process, becomes a failure with code, message and place."""
    import re

    commit = ask(failing(error))
    assert commit.outcome == "failed"
    assert commit.error is not None
    assert (commit.error["code"], commit.error["retryable"]) == (code, retryable)
    assert re.search(text, commit.error["message"])
    assert "test_execute.py" in commit.error["detail"]["traceback"]
    assert "runtime/execute.py" not in commit.error["detail"]["traceback"]
    json.dumps(commit.error).encode()


def test_a_failure_stores_nothing() -> None:
    """State and emitted tasks of a turn that failed are not in its commit."""

    def work(ctx: Context) -> Report:
        ctx.emit("b", "s")
        ctx.state["n"] = 1
        raise ValueError

    commit = ask(work, session="z", state={})
    assert (commit.state, commit.emits) == (None, [])


def test_cancellation_passes_through() -> None:
    """A cancelled turn has no commit."""
    with pytest.raises(TurnCancelledError):
        ask(failing(TurnCancelledError("cancelled")))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"skill": "none"}, "not-found"),
        ({"input": {}}, "invalid-input"),
        ({"input": {"what": 1}}, "invalid-input"),
        ({"input": None}, "invalid-input"),
        ({"step": "none"}, "non-retryable"),
        ({"step": "collect", "carry": "text"}, "invalid-input"),
    ],
)
def test_bad_turns(fields: dict[str, Any], code: str) -> None:
    """An unknown skill or step and an input that does not fit are failures that are not tried again."""
    commit = ask(**fields)
    assert commit.error is not None
    assert (commit.error["code"], commit.error["retryable"]) == (code, False)


@pytest.mark.parametrize(
    "value", [{"total": "x"}, None, 3, Report, object(), lambda: 1, {"total": 1.5}], ids=lambda value: repr(value)[:20]
)
def test_wrong_results(value: Any) -> None:
    """A result that its type does not allow is the agent's failure, and is not tried again."""
    commit = ask(lambda _: value)
    assert commit.error is not None
    assert (commit.error["code"], commit.error["retryable"]) == ("invalid-output", False)


def test_a_large_result_is_to_be_uploaded() -> None:
    """It stands beside the commit, which names its size and digest; one byte less goes in the message."""
    commit = ask(lambda _: "x" * (TASK_RESULT_BYTES_MAX - 1), skill="anything", input={})
    assert (commit.result, commit.error) == (None, None)
    assert commit.large == b'"' + b"x" * (TASK_RESULT_BYTES_MAX - 1) + b'"'
    digest = f"sha256:{hashlib.sha256(commit.large).hexdigest()}"
    assert commit.reference() == {"bytes": TASK_RESULT_BYTES_MAX + 1, "digest": digest}
    small = ask(lambda _: "x" * (TASK_RESULT_BYTES_MAX - 2), skill="anything", input={})
    assert (len(small.result), small.large, small.reference()) == (TASK_RESULT_BYTES_MAX - 2, b"", None)


def test_a_result_above_every_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""
    monkeypatch.setattr(execute_module, "RESULT_BYTES_MAX", TASK_RESULT_BYTES_MAX)
    commit = ask(lambda _: "x" * TASK_RESULT_BYTES_MAX, skill="anything", input={})
    assert commit.error is not None
    assert "return a file's path" in commit.error["message"]


def test_the_result_of_a_child_is_read_when_it_is_looked_at() -> None:
    """Once, part by part; what is damaged or cut off is an error that may pass, not a wrong value."""
    text = b'{"n": 1}'
    good = {"offset": 0, "bytes": len(text), "digest": f"sha256:{hashlib.sha256(text).hexdigest()}"}
    asked: list[dict[str, Any]] = []

    def answer(fields: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        asked.append(fields)
        return good, [text[fields["offset"] :][:5]]

    entry = {"task": "c", "agent": "b", "skill": "s", "status": "succeeded", "result": None, "error": None,
             "result_ref": {"bytes": len(text)}}  # fmt: skip
    result = result_of(entry, lambda task, reference: download(answer, task, reference["bytes"]))
    assert (result.ok, asked) == (True, [])
    assert (result.require(), result.result) == ({"n": 1}, {"n": 1})
    assert [fields["offset"] for fields in asked] == [0, 5]
    wrongs: list[tuple[dict[str, Any], list[bytes]]] = [
        ({**good, "digest": "sha256:0"}, [text]), (good, []), (good, [b""]), ({**good, "bytes": 9}, [text])
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(UnavailableError, match="result of c"):
            download(lambda _, wrong=wrong: wrong, "c", len(text))  # type: ignore[misc]


def test_a_result_that_did_not_fit_is_no_result() -> None:
    """The call succeeded, but nobody may take what is not here for what it gave."""
    error = {"code": "results-too-large", "message": "above 5 MB together"}
    result = result_of({"task": "c", "agent": "b", "skill": "s", "status": "succeeded", "error": error})
    assert not result.ok
    with pytest.raises(SkillError, match="above 5 MB together"):
        result.require()


@pytest.mark.parametrize("value", [object(), "\ud800"], ids=["object", "text"])
def test_results_that_are_no_json(value: Any) -> None:
    """Without a type too, a result is JSON."""
    commit = ask(lambda _: value, skill="anything", input={})
    assert commit.error is not None
    assert commit.error["code"] == "invalid-output"


def test_bad_waits() -> None:
    """Unknown steps, the same call twice and a carry that is no JSON or too large fail the turn."""

    def twice(ctx: Context) -> Any:
        call = ctx.call("b", "s")
        return Wait([call, call], then=collect)

    for action in (
        lambda ctx: Wait([ctx.call("b", "s")], then="none"),
        twice,
        lambda ctx: Wait([ctx.call("b", "s")], then=collect, carry={"x": object()}),
        lambda ctx: Wait([ctx.call("b", "s")], then=collect, carry={"x": "y" * CARRY_BYTES_MAX}),
    ):
        commit = ask(action)
        assert commit.error is not None
        assert commit.error["retryable"] is False


def test_a_commit_fits_a_frame() -> None:
    """Results and emitted tasks that are together too large for one commit fail with what to do."""

    def work(ctx: Context) -> Any:
        for _ in range(10):
            ctx.emit("b", "s", {"x": "y" * 1_000_000})
        return "done"

    commit = ask(work, skill="anything", input={})
    assert commit.error is not None
    assert "checkpoint" in commit.error["message"]


def test_turns_are_read_from_the_wire() -> None:
    """A turn message becomes a turn; a session without state has an empty one, no session has none."""
    task = {"id": "t_1", "agent": "a", "skill": "act", "input": {}, "session": "z", "priority": 2, "attempt": 3,
            "parent": None, "step": "collect", "carry": {"x": 1}, "created_ms": 9,
            "results": [{"task": "t_2", "agent": "b", "skill": "s", "status": "dead", "error": {"code": "x"}}],
            }  # fmt: skip
    message = {"t": "turn", "task": task, "fence": 4, "lease_ms": 100, "deadline_left_ms": 5_000, "state": None}
    turn = read_turn(message)
    assert (turn.state, turn.state_version, turn.fence) == ({}, 0, 4)
    assert (turn.task.attempt, turn.task.parent, turn.task.step) == (3, "", "collect")
    assert turn.results == [Result("t_2", "b", "s", "dead", error={"code": "x"})]
    assert turn.held == {"task": "t_1", "fence": 4}
    assert read_turn({**message, "task": {**task, "session": None}}).state is None


def test_log_lines_are_json(tmp_path: Path) -> None:
    """A line has time, level, text and the fixed fields; odd values, half characters and length do not break it."""
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    log = Log({"agent": "a"}, descriptor).bind(task="t_1")
    log.info("hello", number=1, odd=object(), half="\ud800")
    log.error("x" * 1_000_000, more="y" * 1_000_000)
    os.close(descriptor)
    log.debug("nowhere")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (lines[0]["level"], lines[0]["text"], lines[0]["agent"], lines[0]["task"]) == ("info", "hello", "a", "t_1")
    assert lines[1]["level"] == "error"
    assert file.stat().st_size < 300_000
    assert sys.stdout is not None
