"""Why it exists: people, demos and benchmarks give work to a fleet and follow it to its end."""

from __future__ import annotations

import getpass
import io
import json
import os
import time
from typing import IO, TYPE_CHECKING, Any, Self

from sutazai.client import where
from sutazai.errors import NotFoundError, UnavailableError
from sutazai.ids import new_id
from sutazai.wire.messages import PROTOCOL_VERSION, SUCCEEDED, TERMINAL, error_of
from sutazai.wire.payloads import open_payload
from sutazai.wire.transport import BlockingConnection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

TIMEOUT_S_DEFAULT = 30.0
#: A broker that is being restarted is waited for so long.
PATIENCE_S = 10.0
#: One ``wait`` request never asks the broker for longer than this; the client asks again.
WAIT_SLICE_S = 20.0
RECONNECT_S = 0.2
#: Of one ``wait_each`` request, and how many of them are asked at a time; what is more waits for them.
WAIT_TASKS_MAX, WAIT_REQUESTS_MAX = 1_000, 4


class TaskClient:
    """Talks to the broker; connects when it is first asked and again when the connection has gone.

    A restart of the broker is waited for (``PATIENCE_S``) and the question asked again, but for a ``submit`` whose
    tasks have neither ``id`` nor ``idempotency_key``. Every method raises ``UnavailableError`` when nobody answers.
    """

    def __init__(self, fleet: str | None = None, *, name: str = "client", timeout_s: float = TIMEOUT_S_DEFAULT) -> None:
        """Name the fleet; connects to nothing.

        Args:
            fleet: its name; without it ``SUTAZAI_FLEET``, else the only one that is up.
            name: what the broker calls this client in its log.
            timeout_s: longest wait for one answer.
        """
        self._fleet, self._name, self._timeout_s = fleet, name, timeout_s
        self._connection: BlockingConnection | None = None

    def __enter__(self) -> Self:
        """Give itself; nothing is opened yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def submit(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give tasks; returns when they are on disk.

        Args:
            tasks: ``{agent, skill, input, priority?, session?, deadline_ms?, delay_ms?, idempotency_key?,
                idempotency_window_ms?, attempts_max?, id?}``. With an ``idempotency_key`` or ``id`` it is safe to
                submit again.

        Returns:
            ``[{id, status, duplicate}]`` in the same order.

        Raises:
            RefusedError: unknown agent, full queue, full disk …
        """
        safe = all(task.get("idempotency_key") or task.get("id") for task in tasks)
        reply = self._request({"t": "submit", "tasks": [*tasks]}, patience_s=PATIENCE_S if safe else 0.0)
        found: list[dict[str, Any]] = reply["tasks"]
        return found

    def get(self, task: str) -> dict[str, Any]:
        """All that is known of a task.

        Raises:
            NotFoundError: there is no such task.
        """
        return self._task({"t": "get", "task": task})

    def result(self, task: dict[str, Any]) -> Any:
        """Give the result of a task that ``get`` or ``wait`` gave, also one that lies in a file.

        Raises:
            NotFoundError: the file is gone: the task is old, and forgotten.
        """
        if not task.get("result_ref"):
            return task.get("result")
        with self.open_result(task) as file:
            return json.load(file)

    def open_result(self, task: dict[str, Any]) -> IO[bytes]:
        """Open the result of a task as JSON text; a large one is not read into memory.

        Raises:
            NotFoundError: it has none, or its file is gone.
        """
        reference = task.get("result_ref")
        if reference is None:
            if task["status"] != SUCCEEDED:
                raise NotFoundError(f"{task['id']} is {task['status']}: it has no result")
            return io.BytesIO(json.dumps(task.get("result"), ensure_ascii=False).encode())
        return open_payload(where.find(self._fleet).payloads, reference)

    def wait(self, task: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait until a task is terminal.

        Returns:
            The task; not terminal when the time was over.
        """
        give_up_at = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, min(WAIT_SLICE_S, give_up_at - time.monotonic()))
            request = {"t": "wait", "task": task, "timeout_ms": int(left_s * 1_000)}
            found = self._task(request, timeout_s=left_s + self._timeout_s)
            if found["status"] in TERMINAL or time.monotonic() >= give_up_at:
                return found

    def wait_each(self, tasks: Sequence[str], timeout_s: float = 600.0) -> Iterator[dict[str, Any]]:
        """Wait for many tasks at once, each given when it has ended.

        Each is ``{task, agent, skill, status, result, result_ref, error}``; a result that lies in a file is only named.

        After a restart of the broker it goes on with those that were not given. Other requests of this client meet
        nothing of it: it has a connection of its own.

        Args:
            tasks: identifiers; one that stands there twice is given once.
            timeout_s: for all of them; those that have not ended by then are not given. Of more than 4000 tasks the
                rest is looked at when those have ended, or every 20 seconds.

        Raises:
            NotFoundError: there is no task of a name.
        """
        open_tasks = dict.fromkeys(tasks)
        give_up_at = time.monotonic() + timeout_s
        failed_at = 0.0
        while open_tasks and (time.monotonic() < give_up_at or not timeout_s):
            left_s = max(0.0, min(WAIT_SLICE_S, give_up_at - time.monotonic()))
            try:
                for ended in self._each_once(list(open_tasks)[: WAIT_TASKS_MAX * WAIT_REQUESTS_MAX], left_s):
                    failed_at = 0.0
                    del open_tasks[ended["task"]]
                    yield ended
            except UnavailableError:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > PATIENCE_S or not self._fleet_is_up():
                    raise
                time.sleep(RECONNECT_S)
            if not timeout_s:
                return

    def _each_once(self, tasks: Sequence[str], timeout_s: float) -> Iterator[dict[str, Any]]:
        paths = where.find(self._fleet)
        with _open(paths.broker_socket, self._name, self._timeout_s) as connection:
            numbers = [
                connection.ask({"t": "wait_each", "tasks": tasks[start : start + WAIT_TASKS_MAX],
                                "timeout_ms": int(timeout_s * 1_000)})
                for start in range(0, len(tasks), WAIT_TASKS_MAX)
            ]  # fmt: skip
            for ended in _replies(connection, numbers, timeout_s + self._timeout_s):
                del ended["t"], ended["re"]
                yield ended

    def watch(self, task: str) -> Iterator[dict[str, Any]]:
        """Events of a task, ``{task, seq, kind, at_wall_ms, data}``, until it is terminal.

        After a restart of the broker it goes on behind the last event.

        Raises:
            NotFoundError: there is no such task.
        """
        last = -1
        failed_at = 0.0
        while True:
            try:
                for event in self._watch_once(task):
                    failed_at = 0.0
                    if event.get("seq", last + 1) > last:
                        last = event.get("seq", last + 1)
                        yield event
            except UnavailableError:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > PATIENCE_S or not self._fleet_is_up():
                    raise
                time.sleep(RECONNECT_S)
            else:
                return

    def cancel(self, task: str) -> dict[str, Any]:
        """Cancel a task; returns it as it is then."""
        return self._task({"t": "cancel", "task": task})

    def waiting(self, limit: int = 100) -> list[dict[str, Any]]:
        """Tasks that wait for a person or a signal, with what they ask (``input``), the oldest first."""
        found: list[dict[str, Any]] = self._request({"t": "waiting", "limit": limit})["tasks"]
        return found

    def approve(self, task: str, *, by: str = "", comment: str = "", data: Any = None) -> dict[str, Any]:
        """Say yes to a task that waits for a person; ``task`` may also be one above it, like a workflow's run.

        Args:
            task: identifier.
            by: who says it, for the history; the name of this process's user when empty.
            comment: why, for the history.
            data: JSON that the task's result hands on.

        Returns:
            The task as it is then. A question that is asked again over a new connection changes nothing.

        Raises:
            NotFoundError: there is no such task.
            InvalidInputError: it does not wait for this, or several tasks below it do.
            RefusedError: it is over; the message says who had answered before.
        """
        return self._resolve(task, "approve", by, comment=comment, data=data)

    def deny(self, task: str, *, by: str = "", comment: str = "", data: Any = None) -> dict[str, Any]:
        """Say no; as ``approve``. The waiting task fails with the code ``denied``."""
        return self._resolve(task, "deny", by, comment=comment, data=data)

    def signal(self, task: str, name: str = "", *, by: str = "", data: Any = None) -> dict[str, Any]:
        """Send a signal to a task that waits for it; as ``approve``. It may come before anybody waits for it.

        By its name a signal is kept for 7 days for the next task below ``task`` that waits for it; the answer is then
        ``task`` itself, with ``signal_kept``.

        Args:
            task: identifier of the waiting task, or of one above it.
            name: of the signal; may be empty when only one is waited for.
            by: who sends it.
            data: JSON that the task's result hands on.
        """
        return self._resolve(task, "signal", by, skill=name, data=data)

    def _resolve(self, task: str, verdict: str, by: str, **fields: Any) -> dict[str, Any]:
        message = {"t": "resolve", "task": task, "verdict": verdict, "by": by or _user(), "key": new_id("k")}
        return self._task({**message, **fields})

    def tree(self, task: str) -> list[dict[str, Any]]:
        """A task and all its descendants, each with its ``turns``."""
        found: list[dict[str, Any]] = self._request({"t": "tree", "task": task})["tasks"]
        return found

    def dead(self, *, agent: str | None = None, handled: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        """Dead letters, newest first, each with its last ``turns``.

        Args:
            agent: only this one's.
            handled: also those that were replayed or discarded.
            limit: 1 to 1000.
        """
        request = {"t": "dead", "handled": handled, "limit": limit, **({"agent": agent} if agent else {})}
        found: list[dict[str, Any]] = self._request(request)["tasks"]
        return found

    def replay(self, tasks: Sequence[str], *, by: str = "") -> list[dict[str, Any]]:
        """Do dead letters again, each as a new task with the same input; asking again gives the same tasks.

        Args:
            tasks: identifiers, at most 1000.
            by: who asks, for the evidence.

        Returns:
            For each ``{task, replay, status, duplicate}``, or ``{task, error: {code, detail}}``.
        """
        return self._handle("replay", tasks, by)

    def discard(self, tasks: Sequence[str], *, by: str = "") -> list[dict[str, Any]]:
        """Put dead letters aside: they count no more; their evidence stays until they are old.

        Returns:
            For each ``{task, duplicate}``, or ``{task, error: {code, detail}}``.
        """
        return self._handle("discard", tasks, by)

    def _handle(self, kind: str, tasks: Sequence[str], by: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._request({"t": kind, "tasks": [*tasks], "by": by})["tasks"]
        return found

    def schedules(self) -> list[dict[str, Any]]:
        """The schedules of the plan: ``{agent, name, cron, timezone, skill, catch_up, next_wall_ms, last_wall_ms}``."""
        found: list[dict[str, Any]] = self._request({"t": "schedules"})["schedules"]
        return found

    def list(self, *, status: str | None = None, agent: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest tasks."""
        query = {"status": status, "agent": agent}
        request = {"t": "list", "limit": limit, **{key: value for key, value in query.items() if value}}
        found: list[dict[str, Any]] = self._request(request)["tasks"]
        return found

    def state(self, agent: str, session: str) -> dict[str, Any] | None:
        """What an agent has committed in a session; ``None`` before its first commit."""
        found: dict[str, Any] | None = self._request({"t": "state", "agent": agent, "session": session})["state"]
        return found

    def stats(self) -> dict[str, Any]:
        """The broker's numbers: ``queues``, ``totals``, ``latency``, ``store``."""
        return self._request({"t": "stats"})

    def _task(self, message: dict[str, Any], timeout_s: float = 0.0) -> dict[str, Any]:
        found: dict[str, Any] = self._request(message, timeout_s)["task"]
        return found

    def _request(
        self, message: dict[str, Any], timeout_s: float = 0.0, patience_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        give_up_at = time.monotonic() + patience_s
        while True:
            try:
                return self._connected().request(message, timeout_s or self._timeout_s)
            except UnavailableError:
                self.close()
                if time.monotonic() >= give_up_at or not self._fleet_is_up():
                    raise
                time.sleep(RECONNECT_S)

    def _fleet_is_up(self) -> bool:
        return where.find(self._fleet).supervisor_socket.exists()

    def _watch_once(self, task: str) -> Iterator[dict[str, Any]]:
        """One stream of events on a connection of its own, so that other requests do not meet it."""
        paths = where.find(self._fleet)
        with _open(paths.broker_socket, self._name, self._timeout_s) as connection:
            number = connection.ask({"t": "watch", "task": task})
            for message in _replies(connection, [number], None):
                yield message["event"]

    def _connected(self) -> BlockingConnection:
        if self._connection is None or self._connection.closed:
            paths = where.find(self._fleet)
            try:
                self._connection = _open(paths.broker_socket, self._name, self._timeout_s)
            except UnavailableError as error:
                cause = error.__cause__
                where.not_answering(paths, "the broker", cause if isinstance(cause, OSError) else OSError(str(error)))
        return self._connection


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return f"uid {os.getuid()}"


def _open(path: Path, name: str, timeout_s: float) -> BlockingConnection:
    connection = BlockingConnection.connect(path, timeout_s)
    try:
        connection.request({"t": "hello", "v": PROTOCOL_VERSION, "role": "client", "name": name}, timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def _replies(
    connection: BlockingConnection, numbers: Sequence[int], timeout_s: float | None
) -> Iterator[dict[str, Any]]:
    """Messages that answer some requests, in the order in which they come, without their ``end``."""
    missing = set(numbers)
    while missing:
        incoming = connection.receive(timeout_s)
        if incoming is None:
            raise UnavailableError(f"nothing was heard of {len(missing)} requests for {timeout_s} s")
        message = incoming[0]
        if message.get("re") not in missing:
            continue
        if message["t"] == "error":
            raise error_of(message)
        if message["t"] == "end":
            missing.remove(message["re"])
        else:
            yield message
