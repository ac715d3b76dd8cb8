"""What a skill says to its context: names of children are stable, and everything is bounded."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from sutazai.errors import NonRetryableError, SkillError
from sutazai.limits import EMITS_PER_TURN_MAX, STATE_BYTES_MAX, TASK_INPUT_BYTES_MAX
from sutazai.runtime import Fallback, Result
from sutazai.runtime.context import Context, Surroundings
from sutazai.runtime.turn import TaskInfo, Turn


def turn(**fields: Any) -> Turn:
    """Make a turn."""
    task = TaskInfo("t_1", "a", "s", session=fields.pop("session", ""), step=fields.pop("step", ""), priority=3)
    return Turn(task, {}, 7, fields.pop("deadline_s", time.monotonic() + 60), 1_000, **fields)


def context(around: Surroundings | None = None, **fields: Any) -> Context:
    """Make a context."""
    return Context(turn(**fields), around or Surroundings())


def test_children_have_the_same_names_again() -> None:
    """A turn that is executed twice names the same children; other places, keys and targets name others."""
    first, again = context(), context()
    names = [
        first.call("b", "s").id,
        first.call("b", "s").id,
        first.call("b", "r").id,
        first.call("b", "s", key="k").id,
    ]
    assert len(set(names)) == 4
    assert names == [
        again.call("b", "s").id,
        again.call("b", "s").id,
        again.call("b", "r").id,
        again.call("b", "s", key="k").id,
    ]
    assert context(step="go").call("b", "s").id != names[0]
    other = Context(replace(turn(), task=replace(turn().task, agent="stand-in")), Surroundings())
    assert other.call("b", "s").id != names[0], "an agent that took the task over"


def test_a_step_that_runs_again_names_new_children() -> None:
    """A loop of waits to one step emits new tasks each round, because the results it got are others."""
    rounds = [context(step="go", results=[Result(f"t_{n}", "b", "s", "succeeded")]).call("b", "s").id for n in range(3)]
    assert len(set(rounds)) == 3


def test_keyed_calls_do_not_depend_on_order() -> None:
    """With a key, calls keep their names when a later execution makes them in another order."""
    first = {key: context().call("b", "s", key=key).id for key in "abc"}
    other = context()
    assert {key: other.call("b", "s", key=key).id for key in "cba"} == first


def test_call_options() -> None:
    """Options are written in the units of the wire; a priority that is not given is the task's own."""

    class Input(BaseModel):
        name: str

    ctx = context()
    call = ctx.call("b", "s", Input(name="x"), deadline_s=1.5, delay_s=2, session="z", idempotency_key="i",
                    idempotency_window_s=0.5)  # fmt: skip
    assert call.wire(3) == {
        "id": call.id, "agent": "b", "skill": "s", "input": {"name": "x"}, "priority": 3, "session": "z",
        "delay_ms": 2_000, "deadline_ms": 1_500, "idempotency_key": "i", "attempts_max": None, "label": None,
        "idempotency_window_ms": 500,
    }  # fmt: skip
    plain = ctx.call("b", "s", priority=0).wire(3)
    assert (plain["priority"], plain["session"], plain["deadline_ms"], plain["idempotency_key"]) == (
        0,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("bad", [[1], "text", {"x": object()}, {"x": "y" * TASK_INPUT_BYTES_MAX}, {"x": "\ud800"}])
def test_a_call_takes_an_object(bad: Any) -> None:
    """The input of a call is a JSON object within its bound; anything else is an error that is not tried again."""
    with pytest.raises(NonRetryableError):
        context().call("b", "s", bad)


def test_priorities_are_bounded() -> None:
    """A priority outside of 0 to 9 is refused."""
    with pytest.raises(NonRetryableError, match="priority"):
        context().call("b", "s", priority=10)


def test_emits_are_bounded() -> None:
    """A turn emits so many tasks and no more."""
    ctx = context()
    ids = {ctx.emit("b", "s") for _ in range(EMITS_PER_TURN_MAX)}
    assert set(ctx.emitted) == ids
    with pytest.raises(NonRetryableError, match="checkpoint"):
        ctx.emit("b", "s")


def test_state_needs_a_session() -> None:
    """Without a session there is no state, and it is said rather than lost."""
    with pytest.raises(NonRetryableError, match="session"):
        _ = context().state
    assert context().changed_state() is None


def test_state_is_stored_when_it_changed() -> None:
    """Reading leaves it; a change, also deep inside, is seen; a value that is no JSON is refused."""
    ctx = context(session="z", state={"seen": [1]}, state_version=4)
    assert ctx.changed_state() is None
    ctx.state["seen"].append(2)
    assert ctx.changed_state() == {"seen": [1, 2]}
    ctx.state["seen"] = object()
    with pytest.raises(NonRetryableError, match="no JSON"):
        ctx.changed_state()
    ctx.state["seen"] = "x" * STATE_BYTES_MAX
    with pytest.raises(NonRetryableError, match="limit"):
        ctx.changed_state()


def test_checkpoint_begins_a_new_part() -> None:
    """After a checkpoint the emitted tasks are gone, the state counts as stored, and children get new names."""
    stored: list[tuple[dict[str, Any] | None, int]] = []

    def store(ctx: Context) -> int:
        stored.append((ctx.changed_state(), len(ctx.emitted)))
        return 5

    ctx = context(Surroundings(on_checkpoint=store), session="z", state={}, state_version=4)
    ctx.state["at"] = 1
    before = ctx.emit("b", "s")
    ctx.checkpoint()
    assert stored == [({"at": 1}, 1)]
    assert (ctx.emitted, ctx.changed_state(), ctx.state_version) == ({}, None, 5)
    after = ctx.emit("b", "s")
    assert after != before
    again = context(session="z", state={"at": 1}, state_version=5)
    assert again.emit("b", "s") == after


def test_checkpoint_needs_a_session_and_a_broker() -> None:
    """Without a session nothing could tell a later execution where to go on."""
    with pytest.raises(NonRetryableError, match="session"):
        context(Surroundings(on_checkpoint=lambda _: 1)).checkpoint()
    with pytest.raises(NonRetryableError, match="broker"):
        context(session="z", state={}).checkpoint()


def test_progress_is_cut_to_its_bounds() -> None:
    """Fractions outside of 0 to 1 and texts that cannot be written are made good; the watcher is told."""
    told: list[int] = []
    ctx = context(Surroundings(on_progress=lambda: told.append(1)))
    ctx.progress(7, "x" * 1_000 + "\ud800")
    assert ctx.progress_now is not None
    assert (ctx.progress_now.fraction, len(ctx.progress_now.text), told) == (1.0, 500, [1])
    ctx.progress(-1, "\ud800")
    assert (ctx.progress_now.fraction, ctx.progress_now.text) == (0.0, "?")


def test_deadline_and_cancelled() -> None:
    """The time left never goes below zero; being cancelled is asked of the watcher."""
    assert 0 < context().deadline_left_s() <= 60
    assert context(deadline_s=0.0).deadline_left_s() == 0
    assert not context().cancelled
    assert context(Surroundings(is_cancelled=lambda: True)).cancelled


def test_results_can_be_required() -> None:
    """A good result gives its value; a bad one raises and says whose fault it was."""
    assert Result("t", "b", "s", "succeeded", {"x": 1}).require() == {"x": 1}
    with pytest.raises(SkillError, match=r"b\.s dead: boom"):
        Result("t", "b", "s", "dead", error={"message": "boom"}).require()


def test_a_named_child_is_found_again() -> None:
    """Its id follows from task and name alone, whatever step emits it."""
    first, later = context(), context()
    assert first.call("b", "s", {}, name="one", label="x").id == later.child_id("one") == first.child_id("one")
    assert first.call("b", "s", {}, name="two").id != first.child_id("one")


def test_values_are_kept_until_the_commit() -> None:
    """A value is JSON of a bounded size under a name."""
    made = context()
    made.keep("x", {"n": 1})
    assert made.kept == {"x": {"n": 1}}
    with pytest.raises(NonRetryableError, match="is no JSON"):
        made.keep("y", object())
    with pytest.raises(NonRetryableError, match="the limit is 1048576"):
        made.keep("y", "x" * (1 << 20))
    with pytest.raises(NonRetryableError, match="no broker"):
        made.recall(["x"])


def test_what_does_not_fit_an_answer_is_asked_for_again() -> None:
    """The broker names what is left; the skill sees one answer."""
    asked = []

    def answer(fields: dict[str, Any]) -> dict[str, Any]:
        asked.append(fields)
        names = fields["names"]
        return {"values": {names[0]: 1}, "results": [], "left": names[1:]}

    made = context(Surroundings(on_recall=answer))
    assert made.recall(["a", "b", "c"]) == {"a": 1, "b": 1, "c": 1}
    assert [fields["names"] for fields in asked] == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_a_call_says_what_takes_its_place() -> None:
    """A value, ``None`` too; or another agent; without one nothing is written."""
    ctx = context()
    assert "fallback" not in ctx.call("b", "do").wire(5)
    assert ctx.call("b", "do", fallback=None).wire(5)["fallback"] == {"value": None}
    assert ctx.call("b", "do", fallback={"agent": "x"}).wire(5)["fallback"] == {"value": {"agent": "x"}}
    other = Fallback("c", "cheap", {"n": 1}, deadline_s=2.5)
    wanted = {"agent": "c", "skill": "cheap", "input": {"n": 1}, "deadline_ms": 2_500}
    assert ctx.call("b", "do", fallback=other).wire(5)["fallback"] == wanted
    assert ctx.call("b", "do", when_open="refuse").wire(5)["when_open"] == "refuse"
    ctx.emit("b", "do", fallback=Fallback("c", "do"))
    assert [call.fallback for call in ctx.emitted.values()] == [{"agent": "c", "skill": "do"}]
    with pytest.raises(NonRetryableError, match="fallback of a call is no JSON"):
        ctx.call("b", "do", fallback=object())
    with pytest.raises(NonRetryableError, match="the limit is"):
        ctx.call("b", "do", fallback="x" * (TASK_INPUT_BYTES_MAX + 1))
