"""Why it exists: every message of the broker's socket stands in one table, and both sides check against it.

A message is a JSON object with its type in ``t``. A request carries a number in ``id``, its reply the same number in
``re``. ``docs/reference/protocol.md`` explains the table; a test sees to it that the two name the same messages.

Field types are written as in the page: ``str``, ``int``, ``number``, ``bool``, ``object``, ``list``, ``any``, and
``…|null``; a ``?`` behind the name marks a field that may be missing. Fields that are not in the table are ignored,
so that a newer side can talk to an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sutazai.errors import (
    BY_CODE,
    InternalError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    SutazaiError,
    UnavailableError,
)

#: Both sides say it in ``hello`` and ``welcome``; a broker refuses another one with the code ``protocol``.
PROTOCOL_VERSION = 1

Sender = Literal["client", "instance", "broker"]

# Outcomes of a turn, as a commit names them.
OUTCOME_RESULT = "result"
OUTCOME_WAIT = "wait"
OUTCOME_CHECKPOINT = "checkpoint"
OUTCOME_FAILED = "failed"
OUTCOMES = frozenset({OUTCOME_RESULT, OUTCOME_WAIT, OUTCOME_CHECKPOINT, OUTCOME_FAILED})

# States of a task.
QUEUED = "queued"
LEASED = "leased"
WAITING = "waiting"
SUCCEEDED = "succeeded"
FAILED = "failed"
DEAD = "dead"
CANCELLED = "cancelled"
EXPIRED = "expired"
#: States that are never left.
TERMINAL = frozenset({SUCCEEDED, FAILED, DEAD, CANCELLED, EXPIRED})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message.

    Attributes:
        type: value of ``t``.
        senders: who may send it.
        fields: ``name: type`` or ``name?: type``.
        replies: types that answer it; empty when nothing does. ``error`` may answer every request.
        text: what it is for.
    """

    type: str
    senders: tuple[Sender, ...]
    fields: dict[str, str]
    replies: tuple[str, ...]
    text: str


_INSTANCE: tuple[Sender, ...] = ("instance",)
_CLIENT: tuple[Sender, ...] = ("client",)
_BROKER: tuple[Sender, ...] = ("broker",)

#: All messages.
TABLE: tuple[Kind, ...] = (
    # both sides' first words
    Kind(
        "hello",
        ("client", "instance"),
        {
            "id?": "int",
            "v": "int",
            "role": "str",
            "name?": "str",
            "agent?": "str",
            "ticket?": "str",
            "token?": "str",
            "pid?": "int",
            "held?": "object|null",
            "files?": "bool",
        },
        ("welcome",),
        "first message of a connection; an instance says its ticket, which turn it still holds, and if it reads files",
    ),
    Kind(
        "welcome",
        _BROKER,
        {"re?": "int", "v": "int", "lease_ms?": "int", "heartbeat_ms?": "int"},
        (),
        "the connection is taken",
    ),
    Kind(
        "error",
        _BROKER,
        {"re?": "int|null", "code": "str", "detail": "str", "retry_after_s?": "number"},
        (),
        "the request was refused",
    ),
    # instances
    Kind("pull", _INSTANCE, {"id?": "int"}, (), "ready for one turn; saying it twice is the same as once"),
    Kind(
        "heartbeat",
        _INSTANCE,
        {"task": "str", "fence": "int", "progress?": "object|null"},
        ("lease",),
        "the turn is alive; carries its progress",
    ),
    Kind(
        "commit",
        _INSTANCE,
        {
            "id": "int",
            "task": "str",
            "fence": "int",
            "outcome": "str",
            "result?": "any",
            "result_ref?": "object|null",
            "error?": "object|null",
            "wait?": "object|null",
            "state?": "object|null",
            "state_version?": "int",
            "emits?": "list",
            "effects?": "list",
            "keeps?": "object|null",
            "pull?": "bool",
        },
        ("committed",),
        "end of a turn, as a whole or not at all; sent again with the same token it is answered the same",
    ),
    Kind(
        "act",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "action": "str", "arguments?": "object"},
        ("acted",),
        "do something to the fleet; the agent needs the power of that name",
    ),
    Kind(
        "own",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "do": "str", "of?": "str", "reason?": "str", "limit?": "int"},
        ("owned",),
        "list, tree or cancel tasks of the own agent, with what came out of them",
    ),
    Kind(
        "recall",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "of?": "str", "names?": "list", "results?": "list"},
        ("recalled",),
        "values that a task of the own agent kept, and results of tasks that its tasks emitted",
    ),
    Kind(
        "upload",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "offset": "int", "bytes": "int", "digest": "str"},
        ("uploaded",),
        "a part of a result that is too large for a commit, as one raw part behind it",
    ),
    Kind(
        "download",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "of": "str", "offset": "int"},
        ("downloaded",),
        "a part of such a result, of a task that tasks of the own agent emitted",
    ),
    Kind(
        "cache",
        _INSTANCE,
        {"id": "int", "task": "str", "fence": "int", "do": "str", "key": "str", "ttl_ms?": "int", "make?": "bool"},
        ("cached",),
        "get, set or delete a value of the own agent in the cache; the value to set is one raw part behind it",
    ),
    Kind("hibernate", _INSTANCE, {"id": "int"}, ("bye", "stay"), "idle for its keep time: may it exit?"),
    Kind(
        "turn",
        _BROKER,
        {
            "task": "object",
            "fence": "int",
            "lease_ms": "int",
            "deadline_left_ms": "int",
            "state?": "object|null",
            "state_version?": "int",
        },
        (),
        "one execution of a task",
    ),
    Kind(
        "lease",
        _BROKER,
        {"task?": "str", "fence?": "int", "ok": "bool", "cancel": "bool"},
        (),
        "the lease was prolonged, or is lost (ok false), or the turn is to be given up (cancel true)",
    ),
    Kind("committed", _BROKER, {"re": "int", "status": "str", "state_version?": "int"}, (), "the commit is on disk"),
    Kind("acted", _BROKER, {"re": "int", "done": "object"}, (), "what was done, or would be in a dry run"),
    Kind("owned", _BROKER, {"re": "int", "tasks": "list"}, (), "the tasks as they are now, without payloads"),
    Kind(
        "recalled",
        _BROKER,
        {"re": "int", "values": "object", "results": "list", "left?": "list"},
        (),
        "what there is of them; what did not fit a frame is named in left: ask again",
    ),
    Kind("uploaded", _BROKER, {"re": "int", "offset": "int"}, (), "so many bytes are written; all: they are on disk"),
    Kind(
        "downloaded",
        _BROKER,
        {"re": "int", "offset": "int", "bytes": "int", "digest": "str"},
        (),
        "the part from there, as one raw part behind it",
    ),
    Kind("cached", _BROKER, {"re": "int", "found": "bool"}, (), "done, or found (one raw part is behind it), or not"),
    Kind("rest", _BROKER, {}, (), "memory is wanted: an instance without a turn asks to hibernate now"),
    Kind("bye", _BROKER, {"re?": "int"}, (), "exit: nothing is leased and nothing is due"),
    Kind("stay", _BROKER, {"re?": "int"}, (), "do not exit: there is work"),
    Kind("cancel", _BROKER, {"task": "str", "fence": "int"}, (), "give the turn up; its commit would be refused"),
    Kind("drain", _BROKER, {}, (), "finish the turn, then exit"),
    # clients
    Kind("submit", _CLIENT, {"id": "int", "tasks": "list"}, ("accepted",), "store tasks; answered when on disk"),
    Kind("accepted", _BROKER, {"re": "int", "tasks": "list"}, (), "the tasks are on disk: [{id, status, duplicate}]"),
    Kind("get", _CLIENT, {"id": "int", "task": "str"}, ("task",), "one task"),
    Kind("task", _BROKER, {"re": "int", "task": "object"}, (), "one task, all its columns"),
    Kind("watch", _CLIENT, {"id": "int", "task": "str"}, ("event", "end"), "a task's events until it is terminal"),
    Kind("event", _BROKER, {"re": "int", "event": "object"}, (), "{task, seq, kind, at_wall_ms, data}"),
    Kind("end", _BROKER, {"re": "int", "open?": "list"}, (), "no more events; tasks that have not ended in time"),
    Kind(
        "wait",
        _CLIENT,
        {"id": "int", "task": "str", "timeout_ms": "int"},
        ("task",),
        "the task when terminal, or on timeout",
    ),
    Kind(
        "wait_each",
        _CLIENT,
        {"id": "int", "tasks": "list", "timeout_ms": "int"},
        ("ended", "end"),
        "how each of up to 1000 tasks ends, in the order of the ends; after the time, which are open",
    ),
    Kind(
        "ended",
        _BROKER,
        {
            "re": "int",
            "task": "str",
            "agent": "str",
            "skill": "str",
            "status": "str",
            "result": "any",
            "result_ref": "object|null",
            "error": "any",
        },
        (),
        "how a task ended",
    ),
    Kind("cancel", _CLIENT, {"id": "int", "task": "str"}, ("task",), "cancel a task and what it waits for"),
    Kind(
        "resolve",
        _CLIENT,
        {
            "id": "int",
            "task": "str",
            "verdict": "str",
            "by": "str",
            "comment?": "str",
            "data?": "any",
            "skill?": "str",
            "key?": "str",
        },
        ("task",),
        "end a task that waits for a person or a signal: approve, deny, signal",
    ),
    Kind("waiting", _CLIENT, {"id": "int", "limit?": "int"}, ("list",), "tasks that wait for a person or a signal"),
    Kind("tree", _CLIENT, {"id": "int", "task": "str"}, ("tree",), "a task, its descendants and all their turns"),
    Kind("tree", _BROKER, {"re": "int", "tasks": "list"}, (), "the tasks, each with its turns"),
    Kind(
        "list",
        _CLIENT,
        {"id": "int", "status?": "str|null", "agent?": "str|null", "limit?": "int"},
        ("list",),
        "tasks, newest first",
    ),
    Kind("list", _BROKER, {"re": "int", "tasks": "list"}, (), "tasks"),
    Kind(
        "dead",
        _CLIENT,
        {"id": "int", "agent?": "str|null", "handled?": "bool", "limit?": "int"},
        ("list",),
        "dead letters with their last turns, newest first; with handled also those that were replayed or discarded",
    ),
    Kind(
        "replay",
        _CLIENT,
        {"id": "int", "tasks": "list", "by?": "str"},
        ("handled",),
        "do dead letters again, each as a new task; asked again it is the same task",
    ),
    Kind(
        "discard",
        _CLIENT,
        {"id": "int", "tasks": "list", "by?": "str"},
        ("handled",),
        "put dead letters aside: they count no more",
    ),
    Kind(
        "handled",
        _BROKER,
        {"re": "int", "tasks": "list"},
        (),
        "what became of each: [{task, replay?, status?, duplicate?, error?}]",
    ),
    Kind("schedules", _CLIENT, {"id": "int"}, ("schedules",), "the schedules of the plan"),
    Kind(
        "schedules",
        _BROKER,
        {"re": "int", "schedules": "list"},
        (),
        "[{agent, name, cron, timezone, skill, catch_up, next_wall_ms, last_wall_ms, last_task}]",
    ),
    Kind("stats", _CLIENT, {"id": "int"}, ("stats",), "queues, totals, latencies, the store's size"),
    Kind(
        "stats",
        _BROKER,
        {
            "re": "int",
            "queues": "object",
            "totals": "object",
            "latency?": "object",
            "store?": "object",
            "dispatch?": "object",
            "cache?": "object",
        },
        (),
        "counters since the broker's start, and depths now",
    ),
    Kind("state", _CLIENT, {"id": "int", "agent": "str", "session": "str"}, ("state",), "a session's state"),
    Kind(
        "state",
        _BROKER,
        {"re": "int", "state": "object|null", "state_version?": "int"},
        (),
        "state and version",
    ),
)

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "number": (int, float),
    "bool": (bool,),
    "object": (dict,),
    "list": (list,),
    "null": (type(None),),
    "any": (object,),
}


def _compile() -> dict[tuple[Sender, str], list[tuple[str, bool, tuple[type, ...]]]]:
    compiled: dict[tuple[Sender, str], list[tuple[str, bool, tuple[type, ...]]]] = {}
    for kind in TABLE:
        fields = [
            (name.rstrip("?"), name.endswith("?"), sum((_TYPES[part] for part in text.split("|")), ()))
            for name, text in kind.fields.items()
        ]
        for sender in kind.senders:
            if (sender, kind.type) in compiled:
                raise InternalError(f"the message {kind.type!r} of {sender} stands twice in the table")
            compiled[sender, kind.type] = fields
    return compiled


_CHECKS = _compile()


def check(message: dict[str, Any], sender: Sender) -> str:
    """Check a message that arrived against the table.

    Returns:
        Its type.

    Raises:
        ProtocolError: this side never sends such a message, or a field is missing or of another type.
    """
    kind: str = message["t"]
    fields = _CHECKS.get((sender, kind))
    if fields is None:
        raise ProtocolError(f"a {sender} does not send {kind!r}")
    for name, optional, types in fields:
        if name not in message:
            if optional:
                continue
            raise ProtocolError(f"the message {kind!r} lacks {name!r}")
        value = message[name]
        if not isinstance(value, types) or (isinstance(value, bool) and int in types and bool not in types):
            raise ProtocolError(f"{name!r} in the message {kind!r} is of the wrong type")
    return kind


def error_message(error: SutazaiError, request_id: int | None) -> dict[str, Any]:
    """Write an error as the reply to a request."""
    message: dict[str, Any] = {"t": "error", "re": request_id, "code": error.code, "detail": str(error)}
    if isinstance(error, QueueFullError):
        message["retry_after_s"] = error.retry_after_s
    return message


def error_of(message: dict[str, Any]) -> SutazaiError:
    """Rebuild the error that a reply of type ``error`` carries; an unknown code becomes ``RefusedError``."""
    code, detail = str(message.get("code", "")), str(message.get("detail", ""))
    if code == QueueFullError.code:
        return QueueFullError(detail, int(message.get("retry_after_s") or 1))
    if code == UnavailableError.code:
        return UnavailableError(detail)
    if code == ProtocolError.code:
        return ProtocolError(detail)
    if code in BY_CODE:
        return BY_CODE[code](detail)
    return RefusedError(f"{detail} ({code})" if code else detail)
