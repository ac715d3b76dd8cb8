"""Why it exists: a skill gets all that it may touch of the fleet from one object, and nothing from globals.

What a turn says here is kept until it commits: calls, emitted tasks and state are stored together or not at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec
from pydantic_core import to_jsonable_python

from sutazai.errors import NonRetryableError
from sutazai.ids import child_task_id, named_child_id
from sutazai.limits import (
    EMITS_PER_TURN_MAX,
    KEPT_BYTES_MAX,
    KEPT_PER_TURN_MAX,
    KEY_CHARACTERS_MAX,
    PRIORITY_LOWEST,
    RECALLED_MAX,
    STATE_BYTES_MAX,
    TASK_INPUT_BYTES_MAX,
)
from sutazai.runtime.flow import Call, Fallback, Load, Result
from sutazai.runtime.log import Log
from sutazai.runtime.turn import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from sutazai.client import FleetClient
    from sutazai.runtime.answers import LlmClient
    from sutazai.runtime.cache import Ask, Cache
    from sutazai.runtime.own_tasks import OwnTasks
    from sutazai.runtime.turn import TaskInfo, Turn

_PROGRESS_CHARACTERS_MAX = 500


class CallOptions(TypedDict, total=False):
    """What may be said of a call beyond whom and what.

    Attributes:
        priority: 0 is the most urgent, 9 the least; without it this task's.
        deadline_s: seconds from the commit on; without it the agent's default.
        delay_s: not before so many seconds after the commit.
        session: tasks of one session run in order and share state.
        key: sets apart calls of one place whose order may differ when the turn is executed again.
        idempotency_key: a task that has it already is not stored twice.
        attempts_max: own failures until it is dead; without it the agent's default.
        label: its name in a history, for people.
        name: names the task within this one, whatever step emits it: its id is ``ctx.child_id(name)``.
        idempotency_window_s: the key is free again after so long; without it as long as the task is kept.
        fallback: what takes its place when it fails, is dead or expires, or at once while the circuit of its agent is
            open: a JSON value that is then its result, or a ``Fallback``, another agent.
        when_open: ``refuse``: without a fallback it fails at once while that circuit is open (code ``circuit-open``),
            in place of waiting for the agent until its deadline.
    """

    priority: int
    deadline_s: float
    delay_s: float
    session: str
    key: str
    idempotency_key: str
    attempts_max: int
    label: str
    name: str
    idempotency_window_s: float
    fallback: Any
    when_open: Literal["queue", "refuse"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a turn is.

    Attributes:
        fraction: 0 to 1.
        text: what it does now.
    """

    fraction: float
    text: str = ""


@dataclass(slots=True)
class Surroundings:
    """What a context needs of the instance it lives in; all parts have harmless defaults, for tests of a skill.

    Attributes:
        settings: what the manifest hands to the agent.
        llm_url: of the language model's server.
        fleet: its name.
        scratch: private folder.
        log: where to write.
        is_cancelled: whether the turn should stop.
        on_progress: called when there is new progress.
        on_checkpoint: commits what was done so far; gives the state's new version.
        on_act: asks the fleet for an action with these arguments; gives what was done.
        on_own: asks the broker for tasks of this agent.
        on_recall: asks the broker for kept values and results.
        on_cache: asks the broker for its cache; gives None when it does not answer.
        on_load: reads the result of a task out of its file, given its reference.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    llm_url: str = ""
    fleet: str = ""
    scratch: Path = Path()
    log: Log = field(default_factory=Log)
    is_cancelled: Callable[[], bool] = lambda: False
    on_progress: Callable[[], None] = lambda: None
    on_checkpoint: Callable[[Context], int] | None = None
    on_act: Callable[[Context, str, dict[str, Any]], dict[str, Any]] | None = None
    on_own: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None
    on_recall: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    on_load: Load | None = None
    on_cache: Ask | None = None


class Context:
    """What a skill may touch of the fleet. A parameter with this annotation gets it.

    Attributes:
        task: the task that the skill works for.
        settings: what the manifest hands to the agent.
        log: writes JSON lines that name agent and task.
        emitted: tasks that are stored when the turn commits.
        kept: values that are stored when the turn commits, by name.
        progress_now: the last progress; ``None`` when there was none.
    """

    def __init__(self, turn: Turn, around: Surroundings) -> None:
        self.task: TaskInfo = turn.task
        self.settings: dict[str, Any] = around.settings
        self.log = around.log.bind(agent=turn.task.agent, task=turn.task.id, skill=turn.task.skill)
        self.emitted: dict[str, Call] = {}
        self.kept: dict[str, Any] = {}
        self.progress_now: Progress | None = None
        self._around = around
        self._deadline_s = turn.deadline_s
        self._marker = turn.results[0].task if turn.results else ""
        self._counts: dict[str, int] = {}
        self._state = turn.state
        self._state_before = _encoded(turn.state)
        self.state_version = turn.state_version
        self._llm: LlmClient | None = None
        self._fleet: FleetClient | None = None

    @property
    def state(self) -> dict[str, Any]:
        """The session's state: change it in place; it is stored when the turn commits.

        Raises:
            NonRetryableError: the task has no session, so there is nothing to store it under.
        """
        if self._state is None:
            raise NonRetryableError("this task has no session, so it has no state: submit it with a session")
        return self._state

    def call(self, agent: str, skill: str, input: Any = None, **options: Unpack[CallOptions]) -> Call:  # noqa: A002
        """Name a task for another agent, to put into a ``Wait``; nothing is sent before the turn commits.

        Raises:
            NonRetryableError: the input is no JSON object or too large, or an option is out of its bounds.
        """
        data = _as_object(input)
        priority = options.get("priority")
        if priority is not None and not 0 <= priority <= PRIORITY_LOWEST:
            raise NonRetryableError(f"a priority is 0 to {PRIORITY_LOWEST}, not {priority}")
        name = options.get("name", "")
        return Call(
            id=self.child_id(name) if name else self._child_id(agent, skill, options.get("key", "")),
            agent=agent,
            skill=skill,
            input=data,
            priority=priority,
            session=options.get("session", ""),
            deadline_ms=round(options.get("deadline_s", 0) * 1_000),
            delay_ms=round(options.get("delay_s", 0) * 1_000),
            idempotency_key=options.get("idempotency_key", ""),
            attempts_max=options.get("attempts_max", 0),
            label=options.get("label", "")[:KEY_CHARACTERS_MAX],
            idempotency_window_ms=round(options.get("idempotency_window_s", 0) * 1_000),
            fallback=_fallback(options["fallback"]) if "fallback" in options else None,
            when_open=options.get("when_open", ""),
        )

    def emit(self, agent: str, skill: str, input: Any = None, **options: Unpack[CallOptions]) -> str:  # noqa: A002
        """Hand a task to another agent without waiting for it; it is stored when the turn commits.

        Returns:
            The task's id.

        Raises:
            NonRetryableError: as ``call``, or the turn emits more than ``EMITS_PER_TURN_MAX`` tasks.
        """
        call = self.call(agent, skill, input, **options)
        if len(self.emitted) >= EMITS_PER_TURN_MAX:
            raise NonRetryableError(f"a turn emits at most {EMITS_PER_TURN_MAX} tasks: use ctx.checkpoint() between")
        self.emitted[call.id] = call
        return call.id

    @property
    def llm(self) -> LlmClient:
        """The fleet's language model."""
        if self._llm is None:
            from sutazai.runtime.answers import LlmClient

            self._llm = LlmClient(self._around.llm_url, self.task, self.deadline_left_s)
        return self._llm

    @property
    def fleet(self) -> FleetClient:
        """Facts of the fleet: metrics, conditions, logs, events; read-only."""
        if self._fleet is None:
            from sutazai.client import FleetClient

            self._fleet = FleetClient(self._around.fleet or None)
        return self._fleet

    @property
    def tasks(self) -> OwnTasks:
        """Tasks that this agent was asked for, and what came out of them: ``asked``, ``tree``, ``cancel``."""
        from sutazai.runtime.own_tasks import OwnTasks

        return OwnTasks(self._around.on_own)

    @property
    def cache(self) -> Cache:
        """What this agent keeps for a while and may lose: ``get``, ``set``, ``delete``, ``get_or``."""
        from sutazai.runtime.cache import Cache

        return Cache(self._around.on_cache)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the turn is; whoever watches the task sees it.

        Args:
            fraction: 0 to 1; values outside are cut.
            text: what it does now, for people.
        """
        clean = str(text)[:_PROGRESS_CHARACTERS_MAX].encode(errors="replace").decode()
        self.progress_now = Progress(min(1.0, max(0.0, float(fraction))), clean)
        self._around.on_progress()

    def deadline_left_s(self) -> float:
        """Seconds until the task expires; 0 when it has."""
        return max(0.0, self._deadline_s - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the turn should stop: it was cancelled, or its deadline is over."""
        return self._around.is_cancelled()

    @property
    def scratch(self) -> Path:
        """A private folder; it is empty when the instance wakes, and gone when it hibernates."""
        return self._around.scratch

    def checkpoint(self) -> None:
        """Store the state and the emitted tasks now; the skill goes on.

        When the turn is lost later, the skill starts again from its beginning with the state of this moment, so it
        reads in its state what is done.

        Raises:
            NonRetryableError: the task has no session (then nothing could tell a later execution where to go on).
            FencedError: the turn belongs to somebody else now.
        """
        _ = self.state
        if self._around.on_checkpoint is None:
            raise NonRetryableError("there is no broker here to store a checkpoint")
        self.state_version = self._around.on_checkpoint(self)
        self._state_before = _encoded(self._state)
        self.emitted.clear()
        self.kept.clear()
        self._counts.clear()

    def act(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Do something to the fleet; the agent's manifest must name the action in ``powers``.

        It is done at once, not with the commit, and again when the turn is executed again: actions are idempotent.
        Waits for some seconds at most; only in the thread that runs the skill.

        Args:
            action: ``reclaim``, ``resize``: see ``docs/reference/runtime-api.md``.
            **arguments: of the action. ``dry_run`` is true unless it is said otherwise.

        Returns:
            What was done, or would be.

        Raises:
            NonRetryableError: the agent has not this power, an argument is wrong, or it was refused; the text says why.
            UnavailableError: broker or ``sutazaid`` was away for longer than ``ACT_PATIENCE_MS``.
        """
        if self._around.on_act is None:
            raise NonRetryableError("there is no fleet here to act on")
        return self._around.on_act(self, action, arguments)

    def child_id(self, name: str) -> str:
        """Give the id of the task that this one emits under a name."""
        return named_child_id(self.task.id, name)

    def keep(self, name: str, value: Any) -> None:
        """Store a value under a name for later turns of this task; with the commit, and as long as the task is known.

        For what is read now and then: unlike state and carry it is not written and handed over again in each turn.

        Args:
            name: up to ``KEY_CHARACTERS_MAX`` characters; a value that has it already is replaced.
            value: JSON of up to ``KEPT_BYTES_MAX`` bytes.

        Raises:
            NonRetryableError: it is no JSON or too large, or the turn keeps too many.
        """
        try:
            data = to_jsonable_python(value)
            size = len(msgspec.json.encode(data))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NonRetryableError(f"the value {name!r} to keep is no JSON: {error}") from error
        if size > KEPT_BYTES_MAX or not 1 <= len(name) <= KEY_CHARACTERS_MAX:
            raise NonRetryableError(f"the value {name[:80]!r} to keep has {size} bytes; the limit is {KEPT_BYTES_MAX}")
        if len(self.kept) >= KEPT_PER_TURN_MAX:
            raise NonRetryableError(f"a turn keeps at most {KEPT_PER_TURN_MAX} values")
        self.kept[name] = data

    def recall(self, names: Sequence[str] = (), *, of: str = "") -> dict[str, Any]:
        """Read values that earlier turns kept; what there is not is left out.

        Args:
            names: of the values.
            of: another task of this agent whose values are meant; empty for this one.

        Raises:
            NonRetryableError: that task is another agent's, or there is none.
        """
        return self._recall(of, names, ())[0]

    def results(self, tasks: Sequence[str]) -> dict[str, Result]:
        """Read how tasks stand that this agent's tasks emitted, by id; one that does not exist is left out.

        Raises:
            NonRetryableError: one of them was emitted by another agent's task.
        """
        return {entry["task"]: result_of(entry, self._around.on_load) for entry in self._recall("", (), tasks)[1]}

    def _recall(
        self, of: str, names: Sequence[str], tasks: Sequence[str]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if self._around.on_recall is None:
            raise NonRetryableError("there is no broker here to ask for what was stored")
        values: dict[str, Any] = {}
        results: list[dict[str, Any]] = []
        asked = [*names, *tasks]
        while asked:
            part, asked = asked[:RECALLED_MAX], asked[RECALLED_MAX:]
            fields = {"of": of, "names" if names else "results": part}
            reply = self._around.on_recall(fields)
            values |= reply["values"]
            results += reply["results"]
            asked = [*reply.get("left", ()), *asked]
        return values, results

    def changed_state(self) -> dict[str, Any] | None:
        """Give the state as JSON when it is another than at the turn's start, else ``None``.

        Raises:
            NonRetryableError: it is no JSON, or too large.
        """
        if self._state is None:
            return None
        try:
            state: dict[str, Any] = to_jsonable_python(self._state)
            data = _encoded(state)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NonRetryableError(f"the state is no JSON: {error}") from error
        if len(data) > STATE_BYTES_MAX:
            raise NonRetryableError(f"the state has {len(data)} bytes; the limit is {STATE_BYTES_MAX}")
        return None if data == self._state_before else state

    def _child_id(self, agent: str, skill: str, key: str) -> str:
        """Name a child by its place: the step, the round (which results it got), the state's version, whom and what.

        The index counts within that place, so a turn that is executed again names the same children, and a step that
        runs again with other results names new ones.
        """
        # Its own agent too: one that took the task over as a fallback names other children than who had it before.
        own = (self.task.agent, self.task.step, self._marker, str(self.state_version))
        site = "\x1f".join((*own, agent, skill, key))
        index = self._counts.get(site, 0)
        self._counts[site] = index + 1
        return child_task_id(self.task.id, site, index)


def _encoded(state: dict[str, Any] | None) -> bytes:
    return b"" if state is None else msgspec.json.encode(state)


def _fallback(given: Any) -> dict[str, Any]:
    """Write what takes the place of a call that ends badly."""
    if isinstance(given, Fallback):
        other: dict[str, Any] = {"agent": given.agent, "skill": given.skill}
        if given.input is not None:
            other["input"] = _as_object(given.input)
        return other | ({"deadline_ms": round(given.deadline_s * 1_000)} if given.deadline_s else {})
    try:
        value = to_jsonable_python(given)
        size = len(msgspec.json.encode(value))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NonRetryableError(f"the fallback of a call is no JSON: {error}") from error
    if size > TASK_INPUT_BYTES_MAX:
        raise NonRetryableError(f"the fallback of a call has {size} bytes; the limit is {TASK_INPUT_BYTES_MAX}")
    return {"value": value}


def _as_object(value: Any) -> dict[str, Any]:
    try:
        data = to_jsonable_python({} if value is None else value)
        size = len(msgspec.json.encode(data))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise NonRetryableError(f"the input of a call is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise NonRetryableError(f"the input of a call is an object of parameters, not {type(value).__name__}")
    if size > TASK_INPUT_BYTES_MAX:
        raise NonRetryableError(f"the input of a call has {size} bytes; the limit is {TASK_INPUT_BYTES_MAX}")
    return data
