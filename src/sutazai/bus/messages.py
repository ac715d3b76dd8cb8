"""Why it exists: what may come into the broker, checked field by field before anything looks at it.

The table for implementers is ``docs/reference/protocol.md``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sutazai.errors import InvalidInputError
from sutazai.limits import (
    CACHE_TTL_MS_DEFAULT,
    CACHE_TTL_MS_MAX,
    CACHE_VALUE_BYTES_MAX,
    DELAY_MS_MAX,
    ERROR_DETAIL_BYTES_MAX,
    KEPT_PER_TURN_MAX,
    KEY_CHARACTERS_MAX,
    LIST_TASKS_MAX,
    PART_BYTES_MAX,
    PRIORITY_LOWEST,
    RECALLED_MAX,
    RESULT_BYTES_MAX,
    SUBMIT_TASKS_MAX,
    WAITING_LISTED_MAX,
)

PROTOCOL_VERSION = 1
DETAIL_BYTES_MAX = ERROR_DETAIL_BYTES_MAX

Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX)]
Text = Annotated[str, Meta(max_length=KEY_CHARACTERS_MAX)]
Milliseconds = Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)]
Deadline = Annotated[int, Meta(ge=1, le=DELAY_MS_MAX)]
Priority = Annotated[int, Meta(ge=0, le=PRIORITY_LOWEST)]
COUNT_MAX = 2**53  # what every language's JSON numbers hold exactly
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
FileBytes = Annotated[int, Meta(ge=1, le=RESULT_BYTES_MAX)]
Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Raw = bytes  # in these classes the name bytes is a field's
RequestId = int | str | None


class Held(Struct, frozen=True):
    """The turn that an instance runs while it connects anew."""

    task: Key
    fence: Count


class Hello(Struct, frozen=True):
    """First message of a connection."""

    v: int
    role: Literal["client", "instance"]
    id: RequestId = None
    name: Text = ""
    agent: Text = ""
    ticket: Text = ""
    token: Text = ""
    pid: Count = 0
    held: Held | None = None
    files: bool = False


class FallbackSpec(Struct, frozen=True):
    """What is done in the place of a task that ends badly: a value, or another agent."""

    value: Any = msgspec.UNSET
    agent: Text = ""
    skill: Text = ""
    input: Any = msgspec.UNSET
    deadline_ms: Deadline | None = None


class TaskSpec(Struct, frozen=True):
    """A task as a caller or a turn asks for it."""

    agent: Key
    skill: Key
    input: Any = None
    id: Key | None = None
    priority: Priority | None = None
    session: Key | None = None
    deadline_ms: Deadline | None = None
    delay_ms: Milliseconds | None = None
    idempotency_key: Key | None = None
    idempotency_window_ms: Deadline | None = None
    attempts_max: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    label: Key | None = None
    fallback: FallbackSpec | None = None
    when_open: Literal["queue", "refuse"] | None = None


class Submit(Struct, frozen=True):
    """Take tasks, all or none."""

    tasks: Annotated[list[TaskSpec], Meta(min_length=1, max_length=SUBMIT_TASKS_MAX)]
    id: RequestId = None


class OfTask(Struct, frozen=True):
    """A request about one task: ``get``, ``watch``, ``cancel``, ``tree``."""

    task: Key
    id: RequestId = None


class WaitFor(Struct, frozen=True):
    """Answer when a task is terminal, or after a time."""

    task: Key
    timeout_ms: Milliseconds = 60_000
    id: RequestId = None


class WaitEach(Struct, frozen=True):
    """Answer for each of several tasks when it is terminal, and at the end, or after a time."""

    tasks: Annotated[list[Key], Meta(min_length=1, max_length=SUBMIT_TASKS_MAX)]
    timeout_ms: Milliseconds = 60_000
    id: RequestId = None


class Listing(Struct, frozen=True):
    """Read tasks, newest first."""

    status: Key | None = None
    agent: Key | None = None
    limit: Annotated[int, Meta(ge=1, le=LIST_TASKS_MAX)] = 100
    id: RequestId = None


class Resolve(Struct, frozen=True):
    """End a task that waits for a person or a signal."""

    task: Key
    verdict: Literal["approve", "deny", "signal"]
    by: Key
    comment: Annotated[str, Meta(max_length=4_000)] = ""
    data: Any = None
    skill: Text = ""
    key: Text = ""
    id: RequestId = None


class WaitingFor(Struct, frozen=True):
    """Read what waits for a person or a signal."""

    limit: Annotated[int, Meta(ge=1, le=WAITING_LISTED_MAX)] = WAITING_LISTED_MAX
    id: RequestId = None


class Dead(Struct, frozen=True):
    """Read dead letters, newest first."""

    agent: Key | None = None
    handled: bool = False
    limit: Annotated[int, Meta(ge=1, le=LIST_TASKS_MAX)] = 100
    id: RequestId = None


class Letters(Struct, frozen=True):
    """Replay or discard dead letters."""

    tasks: Annotated[list[Key], Meta(min_length=1, max_length=SUBMIT_TASKS_MAX)]
    by: Text = ""
    id: RequestId = None


class OfState(Struct, frozen=True):
    """Read the state of a session."""

    agent: Key
    session: Key
    id: RequestId = None


class Plain(Struct, frozen=True):
    """A request without fields: ``pull``, ``hibernate``, ``stats``."""

    id: RequestId = None


class Progress(Struct, frozen=True):
    """How far a turn is."""

    fraction: float | None = None
    text: Annotated[str, Meta(max_length=1_000)] = ""


class Heartbeat(Struct, frozen=True):
    """A turn still runs."""

    task: Key
    fence: Count
    id: RequestId = None
    progress: Progress | None = None


class Act(Struct, frozen=True):
    """Do something to the fleet."""

    task: Key
    fence: Count
    action: Key
    arguments: dict[str, Any] = {}
    id: RequestId = None


class Own(Struct, frozen=True):
    """Look after tasks of the own agent."""

    task: Key
    fence: Count
    do: Literal["list", "tree", "cancel"]
    of: Text = ""
    reason: Annotated[str, Meta(max_length=1_000)] = ""
    limit: Annotated[int, Meta(ge=1, le=LIST_TASKS_MAX)] = 20
    id: RequestId = None


class Recall(Struct, frozen=True):
    """Read kept values of an own task, and results of tasks that own tasks emitted."""

    task: Key
    fence: Count
    of: Text = ""
    names: Annotated[list[Key], Meta(max_length=RECALLED_MAX)] = []
    results: Annotated[list[Key], Meta(max_length=RECALLED_MAX)] = []
    id: RequestId = None


class Upload(Struct, frozen=True):
    """A part of a result that is too large for a commit; ``raw`` is the one that follows the message."""

    task: Key
    fence: Count
    offset: Count
    bytes: FileBytes
    digest: Digest
    raw: Annotated[Raw, Meta(min_length=1, max_length=PART_BYTES_MAX)]
    id: RequestId = None


class Download(Struct, frozen=True):
    """Read a part of a result that lies in a file."""

    task: Key
    fence: Count
    of: Key
    offset: Count
    id: RequestId = None


class Cache(Struct, frozen=True):
    """Ask the cache, keep something there, or forget it; ``raw`` is the value of a ``set``, behind the message."""

    task: Key
    fence: Count
    do: Literal["get", "set", "delete"]
    key: Key
    ttl_ms: Annotated[int, Meta(ge=1, le=CACHE_TTL_MS_MAX)] = CACHE_TTL_MS_DEFAULT
    make: bool = False
    raw: Annotated[Raw, Meta(max_length=CACHE_VALUE_BYTES_MAX)] | None = None
    id: RequestId = None


class ResultRef(Struct, frozen=True):
    """A result that was uploaded."""

    bytes: FileBytes
    digest: Digest


class FailureSpec(Struct, frozen=True):
    """Why a turn failed."""

    code: Key = "skill-failed"
    message: str = ""
    retryable: bool = True
    detail: Any = None


class WaitSpec(Struct, frozen=True):
    """Go on with a step when children are terminal."""

    tasks: Annotated[list[Key], Meta(max_length=10_000)]
    then: Key
    carry: Any = None
    count: Count = 0


class Commit(Struct, frozen=True):
    """End a turn, or a part of it."""

    task: Key
    fence: Count
    outcome: Literal["result", "wait", "checkpoint", "failed"]
    id: RequestId = None
    result: Any = None
    result_ref: ResultRef | None = None
    error: FailureSpec | None = None
    wait: WaitSpec | None = None
    state: Any = None
    state_version: Count = 0
    emits: Annotated[list[TaskSpec], Meta(max_length=10_000)] | None = None
    effects: list[Any] | None = None
    keeps: Annotated[dict[Key, Any], Meta(max_length=KEPT_PER_TURN_MAX)] | None = None
    pull: bool = False


#: Requests by type and who may send them.
CLIENT_MESSAGES: dict[str, type[Struct]] = {
    "submit": Submit,
    "get": OfTask,
    "watch": OfTask,
    "wait": WaitFor,
    "wait_each": WaitEach,
    "cancel": OfTask,
    "tree": OfTask,
    "list": Listing,
    "dead": Dead,
    "replay": Letters,
    "discard": Letters,
    "stats": Plain,
    "schedules": Plain,
    "state": OfState,
    "resolve": Resolve,
    "waiting": WaitingFor,
}
INSTANCE_MESSAGES: dict[str, type[Struct]] = {
    "pull": Plain,
    "heartbeat": Heartbeat,
    "commit": Commit,
    "act": Act,
    "own": Own,
    "recall": Recall,
    "upload": Upload,
    "download": Download,
    "cache": Cache,
    "hibernate": Plain,
}


def read(kind: type[Struct], message: dict[str, Any]) -> Any:
    """Check a message.

    Raises:
        InvalidInputError: a field is missing or of the wrong type or size.
    """
    try:
        return msgspec.convert(message, kind)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the message {message.get('t')!r} is not well formed: {error}") from error


def to_json(value: Any) -> str:
    """Write a decoded JSON value as text again."""
    return msgspec.json.encode(value).decode()


def raw(text: str) -> msgspec.Raw:
    """JSON text that the encoder puts into a message as it is."""
    return msgspec.Raw(text.encode())
