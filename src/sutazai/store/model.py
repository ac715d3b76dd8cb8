"""Why it exists: what can be asked of a store, and what it answers, as plain frozen values.

An operation is data; a driver applies it inside a transaction. The same operations run in the simulation, in the
broker and in the contract suite, so their meaning is written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from sutazai.limits import SPILLED_BYTES_KEPT_MAX, STATES_PURGED_AT_ONCE, STORE_BYTES_KEPT_MAX
from sutazai.store.ends import Outcomes
from sutazai.store.failure import Failure, FallBack, Fallback
from sutazai.store.letters import DeadLetters, Discard, Replay
from sutazai.store.spill import Locate, Spilled, Unreferenced
from sutazai.store.times import RETRY_DEFAULT, Bound, Claimable, Occur, Rate, Retry, Schedules

QUEUED, LEASED, WAITING, SUCCEEDED, FAILED, DEAD, CANCELLED, EXPIRED = range(8)
#: Names of the states on the wire, by their number in the store.
STATUS_NAMES = ("queued", "leased", "waiting", "succeeded", "failed", "dead", "cancelled", "expired")
STATUS_NUMBERS = {name: number for number, name in enumerate(STATUS_NAMES)}
#: The first terminal state; every later one is terminal too.
TERMINAL_FIRST = SUCCEEDED


def is_terminal(status: str) -> bool:
    """Whether a state on the wire is one that is never left."""
    return STATUS_NUMBERS[status] >= TERMINAL_FIRST


class NewTask(Struct, frozen=True):
    """A task that is submitted or emitted.

    Attributes:
        id: identifier; a child's is a hash, so that it is the same on a second execution.
        agent: whose skill.
        skill: name.
        input: JSON text.
        priority: 0 is first, 9 last; it ages.
        session: tasks of one session run in order and share state.
        deadline_ms: from when it is due.
        delay_ms: not before.
        idempotency_key: unique per agent.
        attempts_max: own failures until it is dead.
        named: the caller chose the identifier, so it may exist already.
        label: its name in a history, for people.
        key_window_ms: for so long the key names this task; 0 for as long as the task is kept.
        replay_of: identifier of the dead letter that it does again.
        schedule: of its agent that it was made by.
        queue: bound of its agent's queue, which what turns emit may pass.
        fallback: what is done in the place of a bad end; None for nothing.
        refused: it is not tried at all, because of this; its fallback is taken at once.
    """

    id: str
    agent: str
    skill: str
    input: str
    priority: int
    deadline_ms: int
    attempts_max: int
    session: str | None = None
    delay_ms: int = 0
    idempotency_key: str | None = None
    named: bool = False
    label: str | None = None
    key_window_ms: int = 0
    replay_of: str | None = None
    schedule: str | None = None
    queue: Bound | None = None
    fallback: Fallback | None = None
    refused: Failure | None = None


class Submit(Struct, frozen=True):
    """Take tasks, all or none. Reply: list of ``Accepted``."""

    tasks: tuple[NewTask, ...]


class Claim(Struct, frozen=True):
    """Lease the first due task of an agent. Reply: ``Turn``; None, also when its rate says later (``limited_ms``).

    Attributes:
        agent: whose.
        ticket: of the instance.
        pid: of the instance.
        rate: of the agent; None for no limit.
        priority_max: tasks of a larger number are passed over; None for no bound.
    """

    agent: str
    ticket: str
    pid: int
    rate: Rate | None = None
    priority_max: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on with a step when children are terminal.

    Attributes:
        tasks: their identifiers; the step gets the results in this order.
        step: name.
        carry: JSON text for the step.
        count: go on when so many of them are terminal; 0 for all.
    """

    tasks: tuple[str, ...]
    step: str
    carry: str | None = None
    count: int = 0


class Commit(Struct, frozen=True):
    """End a turn, or a part of it. Reply: ``Committed``.

    Attributes:
        task: identifier.
        fence: token of the turn.
        ticket: of the instance that holds the lease.
        outcome: what the turn came to.
        result: JSON text, for ``result``, or the file that holds it.
        failure: for ``failed``; nothing else of a failed turn is kept.
        wait: for ``wait``.
        state: JSON text, None when unchanged.
        state_version: the version that ``state`` was made from.
        emits: children.
        effects: JSON text of the effects journal.
        jitter: a draw from 0 to 1 for the backoff.
        keeps: name and JSON text of values for the task's later turns.
        retry: pauses of the agent.
        hold_ms: added to the pause before a retry, because the agent's budget is used up.
        probe_ms: the turn was a probe of an open circuit: when it failed it gets its attempt back, and stays away so
            long that the next probe is another task; 0 for none.
    """

    task: str
    fence: int
    ticket: str
    outcome: Literal["result", "wait", "checkpoint", "failed"]
    result: str | Spilled | None = None
    failure: Failure | None = None
    wait: Wait | None = None
    state: str | None = None
    state_version: int = 0
    emits: tuple[NewTask, ...] = ()
    effects: str | None = None
    jitter: float = 1.0
    keeps: tuple[tuple[str, str], ...] = ()
    retry: Retry = RETRY_DEFAULT
    hold_ms: int = 0
    probe_ms: int = 0


@dataclass(frozen=True, slots=True)
class Lose:
    """A lease is over without a commit. Reply: the new status, or None when the fence is not the newest.

    Attributes:
        task: identifier.
        fence: token of the turn.
        own: the agent's own fault: the attempt stays counted. Else it is given back, and a loss is counted.
        reason: for the history.
        jitter: a draw from 0 to 1 for the backoff.
        retry: pauses of the agent.
        hold_ms: as of ``Commit``.
        probe_ms: as of ``Commit``.
    """

    task: str
    fence: int
    own: bool
    reason: str
    jitter: float = 1.0
    retry: Retry = RETRY_DEFAULT
    hold_ms: int = 0
    probe_ms: int = 0


class Progress(Struct, frozen=True):
    """A turn says how far it is; one more event. Reply: whether the turn still runs."""

    task: str
    fence: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a task and all its open descendants. Reply: the task as ``Get`` gives it."""

    task: str
    reason: str = "cancelled by a caller"


@dataclass(frozen=True, slots=True)
class Resolve:
    """End a task that waits for a person or a signal. Reply: the task as ``Get`` gives it.

    Attributes:
        task: identifier of the waiting task, or of one above it below which only one such task waits. A signal by its
            name is kept for that one when nobody below waits for it yet; the reply then has ``signal_kept``.
        verdict: what is said.
        by: who says it, for the history.
        comment: why, for the history.
        data: JSON text that is handed on.
        skill: which of several signals is meant; empty when only one is waited for.
        key: the same resolution again under this key gets the same answer; empty for none.
    """

    task: str
    verdict: Literal["approve", "deny", "signal"]
    by: str
    comment: str = ""
    data: str = "null"
    skill: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Recall:
    """Read what tasks of an agent kept, and results of tasks that they emitted. Reply: ``Recalled``.

    Attributes:
        agent: who asks.
        task: whose kept values.
        names: of values.
        results: identifiers of tasks.
    """

    agent: str
    task: str
    names: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expire:
    """End tasks whose deadline has passed. Reply: how many."""

    limit: int = 200


@dataclass(frozen=True, slots=True)
class Promote:
    """Let delayed tasks be claimed whose time has come. Reply: how many."""

    limit: int = 500


@dataclass(frozen=True, slots=True)
class Purge:
    """Forget the oldest terminal tasks beyond what is kept. Reply: how many.

    Attributes:
        kept: newest tasks that stay.
        bytes_max: when the store is larger, only ``TASKS_KEPT_WHEN_LARGE`` stay.
        limit: at most so many at once.
        files_bytes_max: when the files of results are larger together, the oldest tasks that have one go.
    """

    kept: int
    bytes_max: int = STORE_BYTES_KEPT_MAX
    limit: int = 100
    files_bytes_max: int = SPILLED_BYTES_KEPT_MAX


class Get(Struct, frozen=True):
    """Read one task. Reply: a JSON object."""

    task: str


@dataclass(frozen=True, slots=True)
class PurgeStates:
    """Forget states of sessions that had no task for long; never one with an open task. Reply: how many.

    Attributes:
        keep: agent and how long its states are kept, broker's milliseconds; who is not named keeps all.
        limit: most of one operation.
    """

    keep: tuple[tuple[str, int], ...]
    limit: int = STATES_PURGED_AT_ONCE


@dataclass(frozen=True, slots=True)
class Events:
    """Read what happened to a task. Reply: list of ``Event``, oldest first."""

    task: str


@dataclass(frozen=True, slots=True)
class Tree:
    """Read a task and its descendants with their turns. Reply: list of JSON objects.

    Attributes:
        task: identifier.
        limit: most tasks.
        payloads: whether inputs and results are wanted.
    """

    task: str
    limit: int
    payloads: bool = True


@dataclass(frozen=True, slots=True)
class List:
    """Read tasks, newest first, without input and result. Reply: list of JSON objects."""

    status: str | None
    agent: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Read tasks that wait for a person or a signal, with their inputs. Reply: list of JSON objects, oldest first."""

    limit: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """Read a session's state. Reply: ``(version, JSON text)`` or None."""

    agent: str
    session: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Read identifiers of tasks that an agent may claim now, the last in the order of claims first. Reply: a list."""

    agent: str
    limit: int


_Timed = Expire | FallBack | Promote | Purge | PurgeStates
Write = Submit | Claim | Commit | Lose | Progress | Cancel | Resolve | Replay | Discard | Occur | _Timed
Read = (
    Get | Outcomes | Events | Tree | List | DeadLetters | Schedules | ReadState | Recall | Waiting | Ready | Claimable
)
Operation = Write | Read | Unreferenced | Locate


class Accepted(Struct, frozen=True):
    """A task that is stored.

    Attributes:
        id: identifier; of the older task when ``duplicate``.
        status: state now.
        duplicate: the same submission was stored before.
    """

    id: str
    status: str
    duplicate: bool


class Turn(Struct, frozen=True):
    """A claimed task, with all that its turn needs. Texts are JSON."""

    task: str
    agent: str
    skill: str
    input: str
    session: str | None
    priority: int
    attempt: int
    parent: str | None
    step: str
    carry: str | None
    results: list[dict[str, Any]]
    created_wall_ms: int
    fence: int
    deadline_ms: int
    state: str | None
    state_version: int


class Committed(Struct, frozen=True):
    """Answer to a commit.

    Attributes:
        status: of the task now (of then, when ``duplicate``).
        duplicate: this turn had been committed before.
        state_version: of the session's state, 0 without one.
    """

    status: str
    duplicate: bool
    state_version: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """Answer to a recall; what is not there is left out.

    Attributes:
        values: JSON text by name.
        results: ends of tasks, ``result`` is JSON text; open tasks too.
        left: names and identifiers that did not fit: ask again for them.
    """

    values: dict[str, str]
    results: list[dict[str, Any]]
    left: list[str]


class Event(Struct, frozen=True):
    """One thing that happened to a task.

    Attributes:
        task: identifier.
        agent: whose.
        seq: 1, 2, … within the task.
        kind: ``queued``, ``leased``, ``progress``, ``waiting``, ``retry``, or the name of a terminal state.
        at_wall_ms: when.
        data: JSON object.
    """

    task: str
    agent: str
    seq: int
    kind: str
    at_wall_ms: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """A turn that runs, as the store knows it."""

    task: str
    agent: str
    fence: int
    ticket: str
    pid: int


@dataclass(slots=True)
class Outcome:
    """What an operation did.

    Attributes:
        reply: as its class says.
        events: what happened, in order.
        revoked: ``(task, fence)`` of leases that others ended: their instances must stop.
        due_ms: earliest due time it stored, 0 for none.
        deadline_ms: earliest deadline it stored, 0 for none.
        characters: of payloads that it read.
        limited_ms: of a claim: the agent's rate lets the next turn start then; 0 when it is not the reason.
        rate_us: of a claim under a rate: the agent's number after it, see ``store.limit``.
        files: of results that nobody needs any more once this is durable.
    """

    reply: Any = None
    events: list[Event] = field(default_factory=list)
    revoked: list[tuple[str, int]] = field(default_factory=list)
    due_ms: int = 0
    deadline_ms: int = 0
    characters: int = 0
    limited_ms: int = 0
    rate_us: int = 0
    files: list[str] = field(default_factory=list)
