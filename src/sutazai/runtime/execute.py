"""Why it exists: whatever agent code does (returns, raises, exits, returns the wrong type), a turn ends in one commit.

No I/O here: ``execute`` gets a turn and a way to run a function, and gives the commit. Only ``TurnCancelledError``
passes through, because a cancelled turn commits nothing.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from sutazai.errors import ConfigError, ConfigErrors, NonRetryableError, SkillError, SutazaiError
from sutazai.limits import CARRY_BYTES_MAX, EMITS_PER_TURN_MAX, FRAME_BYTES_MAX, RESULT_BYTES_MAX, TASK_RESULT_BYTES_MAX
from sutazai.runtime.flow import Wait
from sutazai.runtime.turn import Commit
from sutazai.wire.messages import OUTCOME_FAILED, OUTCOME_RESULT, OUTCOME_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.runtime.context import Context
    from sutazai.runtime.skill import Agent, Skill, Step
    from sutazai.runtime.turn import Turn

_MESSAGE_CHARACTERS_MAX = 2_000
_TRACEBACK_CHARACTERS_MAX = 4_000
_TRACEBACK_FRAMES_MAX = 8
_MISTAKES_MAX = 20
_ROOM_BYTES = 1_024  # for the parts of a commit that are added later


class TurnCancelledError(BaseException):
    """The turn is to be given up: cancelled, past its deadline, or its lease is lost.

    Not an ``Exception``, so that ``except Exception`` in agent code does not swallow it.
    """


class Runner(Protocol):
    """Runs a function of the agent."""

    def __call__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run it, on the event loop when it is ``async``, and give what it returns.

        Raises:
            TurnCancelledError: the turn was given up meanwhile.
        """
        ...


class _BadInputError(SutazaiError):
    code = "invalid-input"


class _BadOutputError(SutazaiError):
    code = "invalid-output"


class _UnknownError(SutazaiError):
    code = "not-found"


def execute(agent: Agent, turn: Turn, context: Context, run: Runner) -> Commit:
    """Run a turn.

    Raises:
        TurnCancelledError: the turn was given up.
    """
    try:
        commit = _execute(agent, turn, context, run)
        _check_size(commit, turn)
    except TurnCancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 agent code may raise anything, SystemExit too
        return Commit(OUTCOME_FAILED, error=describe_error(error))
    return commit


def _check_size(commit: Commit, turn: Turn) -> None:
    size = len(msgspec.json.encode(commit.message(turn, 0, pull=True)))
    if size > FRAME_BYTES_MAX - _ROOM_BYTES:
        raise _BadOutputError(
            f"result, state and emitted tasks have {size} bytes together, more than a commit takes: "
            "use ctx.checkpoint() between, or hand on a file's path"
        )


def _execute(agent: Agent, turn: Turn, context: Context, run: Runner) -> Commit:
    skill = agent.skills.get(turn.task.skill)
    if skill is None:
        raise _UnknownError(f"{agent.name} has no skill {turn.task.skill!r}; it has {', '.join(agent.skills)}")
    if turn.task.step:
        value = _continue(agent, turn.task.step, (turn.results, turn.carry), context, run)
    else:
        value = run(skill.function, _validated(lambda: skill.arguments(turn.input, context), "input"))
    while isinstance(value, Wait) and not value.calls and not value.running:
        value = _continue(agent, value.step, ([], value.carry), context, run)
    if isinstance(value, Wait):
        return _wait(agent, value, context)
    result, large = _result(skill, value)
    return Commit(
        OUTCOME_RESULT, result=result, large=large, state=context.changed_state(), emits=_emits(context, ()),
        keeps=context.kept,
    )  # fmt: skip


def _continue(agent: Agent, name: str, came: tuple[list[Any], Any], context: Context, run: Runner) -> Any:
    step = _step(agent, name)
    return run(step.function, _validated(lambda: step.arguments(*came, context), "carry"))


def _step(agent: Agent, name: str) -> Step:
    step = agent.steps.get(name)
    if step is None:
        raise NonRetryableError(f"{agent.name} has no step {name!r}: mark the function with @agent.step")
    return step


def _validated(make: Callable[[], dict[str, Any]], what: str) -> dict[str, Any]:
    try:
        return make()
    except ValidationError as error:
        raise _BadInputError(f"the {what} does not fit: {_mistakes(error)}") from error


def _mistakes(error: ValidationError) -> str:
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{'.'.join(map(str, mistake['loc'])) or 'it'}: {mistake['msg']}" for mistake in mistakes[:_MISTAKES_MAX]]
    return "; ".join(texts) + ("; …" if len(mistakes) > _MISTAKES_MAX else "")


def _result(skill: Skill, value: Any) -> tuple[Any, bytes]:
    """Give the result as JSON, or as its text when it is to be uploaded."""
    try:
        checked = skill.output.validate_python(value)
        result = skill.output.dump_python(checked, mode="json")
        text = msgspec.json.encode(result)
    except ValidationError as error:
        raise _BadOutputError(f"{skill.name} returned what its type does not allow: {_mistakes(error)}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _BadOutputError(f"{skill.name} returned what is no JSON: {error}") from error
    if len(text) > RESULT_BYTES_MAX:
        raise _BadOutputError(
            f"{skill.name} returned {len(text)} bytes; no limit is above {RESULT_BYTES_MAX}: return a file's path"
        )
    return (None, text) if len(text) > TASK_RESULT_BYTES_MAX else (result, b"")


def _wait(agent: Agent, wait: Wait[Any], context: Context) -> Commit:
    _step(agent, wait.step)
    try:
        carry = to_jsonable_python(wait.carry)
        size = len(msgspec.json.encode(carry))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NonRetryableError(f"the carry of a wait is no JSON: {error}") from error
    if size > CARRY_BYTES_MAX:
        raise NonRetryableError(f"the carry of a wait has {size} bytes; the limit is {CARRY_BYTES_MAX}")
    emits = _emits(context, wait.calls)
    tasks = [*wait.running, *(call.id for call in wait.calls)]
    if len(set(tasks)) != len(tasks):
        raise NonRetryableError("a wait names the same call twice: make one call for each piece of work")
    return Commit(
        OUTCOME_WAIT,
        wait={"tasks": tasks, "then": wait.step, "carry": carry, "count": wait.count},
        state=context.changed_state(),
        emits=emits,
        keeps=context.kept,
    )


def _emits(context: Context, calls: Any) -> list[dict[str, Any]]:
    entries = {**context.emitted, **{call.id: call for call in calls}}
    if len(entries) > EMITS_PER_TURN_MAX:
        raise NonRetryableError(f"a turn emits at most {EMITS_PER_TURN_MAX} tasks, not {len(entries)}: split the work")
    return [call.wire(context.task.priority) for call in entries.values()]


def describe_error(error: BaseException) -> dict[str, Any]:
    """Write what was raised as ``{code, message, retryable, detail: {type, traceback}}``."""
    code, retryable = SkillError.code, True
    if isinstance(error, SutazaiError):
        code, retryable = error.code, error.retryable
    elif isinstance(error, (ConfigErrors, ConfigError)):
        code, retryable = ConfigErrors.code, False
    message = str(error).strip() or type(error).__name__
    if isinstance(error, SystemExit):
        message = f"the skill tried to end the process with sys.exit({error.code!r}); return or raise in its place"
    elif not isinstance(error, SutazaiError):
        message = f"{type(error).__name__}: {message}" if str(error).strip() else message
    detail = {"type": f"{type(error).__module__}.{type(error).__qualname__}", "traceback": _traceback(error)}
    return {
        "code": code,
        "message": _clean(message[:_MESSAGE_CHARACTERS_MAX]),
        "retryable": retryable,
        "detail": {name: _clean(text) for name, text in detail.items()},
    }


def _clean(text: str) -> str:
    """Make a text that can be written as JSON out of any (an error may hold half a character)."""
    return text.encode(errors="backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    """Write the last frames, the runtime's own at the top left out."""
    frames = traceback.extract_tb(error.__traceback__)
    while frames and frames[0].filename.endswith(("runtime/execute.py", "runtime/activation.py", "runtime/running.py")):
        frames.pop(0)
    text = "".join(traceback.format_list(frames[-_TRACEBACK_FRAMES_MAX:]))
    text += "".join(traceback.format_exception_only(type(error), error))
    return text[-_TRACEBACK_CHARACTERS_MAX:]
