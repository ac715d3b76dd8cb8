"""Why it exists: durable work enters here: checked, handed to the broker, answered 202 when it is on disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from starlette.responses import Response, StreamingResponse

from sutazai.errors import SutazaiError
from sutazai.gateway.problems import Problem
from sutazai.gateway.reading import (
    has_body,
    idempotency_key,
    prefer_wait_ms,
    read_json,
    resolution,
    task_id,
    task_request,
)
from sutazai.gateway.results import answer, with_link
from sutazai.outside import APPROVE, DENY, SEND
from sutazai.wire.messages import LEASED, QUEUED, TERMINAL, WAITING, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from starlette.requests import Request

    from sutazai.gateway.directory import Directory
    from sutazai.gateway.reading import Guard

ANSWER_S_MAX = 10.0
WAIT_SLACK_S = 5.0
KEEP_ALIVE_S = 15.0
STREAMS_MAX = 1_000
CUT_SHORT = frozenset({429, 503})
LIST_MAX = 1_000
LIST_DEFAULT = 50
STATES = TERMINAL | {QUEUED, LEASED, WAITING}


class Broker(Protocol):
    """The part of ``wire.aio.AsyncConnection`` that the gateway uses."""

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        ...

    async def connect(self) -> None:
        """Connect unless it is connected."""
        ...

    async def close(self) -> None:
        """Close; requests in flight fail."""
        ...

    async def request(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        ...

    def stream(self, message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send a request whose replies go on until the broker ends them."""
        ...


class TaskRoutes:
    """Handlers of everything below ``/tasks``; the agent is the one of the path or of the port.

    Args:
        broker: the connection that all requests share.
        directory: the agents.
        guard: who may do what.
        another: makes a connection of its own for a stream: closing it is how the broker learns that nobody listens.
        payloads: folder of results that lie in files.
    """

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        guard: Guard,
        another: Callable[[], Broker],
        payloads: Path,
    ) -> None:
        self._broker, self._directory, self._guard, self._another = broker, directory, guard, another
        self._payloads = payloads
        self._streams = 0

    async def submit(self, request: Request) -> Response:
        """``POST /tasks``: 202 and the identifier; 200 with the task when it is done in the time of ``Prefer``."""
        self._guard.may_write(request)
        agent = self._directory.agent(request.state.agent)
        wanted = task_request(await read_json(request))
        self._directory.check(agent, self._directory.skill(agent, wanted.skill), wanted.input)
        task = wanted.message(agent.name, idempotency_key(request))
        reply = await self._ask({"t": "submit", "tasks": [task]}, ANSWER_S_MAX)
        accepted = reply["tasks"][0]
        headers = {"Location": f"/tasks/{accepted['id']}"}
        wait_ms = prefer_wait_ms(request)
        if wait_ms:
            headers["Preference-Applied"] = f"wait={wait_ms // 1_000}"
            done = await self._wait(accepted["id"], wait_ms)
            if done["status"] in TERMINAL:
                return _json(with_link(done), 200, headers)
            accepted = {**accepted, "status": done["status"]}
        return _json(accepted, 200 if accepted.get("duplicate") else 202, headers)

    async def show(self, request: Request) -> Response:
        """``GET /tasks/{id}``; with ``Prefer: wait`` it waits for the end."""
        self._guard.may_read(request)
        wait_ms = prefer_wait_ms(request)
        task = await self._task(request)
        if wait_ms and task["status"] not in TERMINAL:
            task = await self._wait(task["id"], wait_ms)
        return _json(with_link(task), 200)

    async def result(self, request: Request) -> Response:
        """``GET /tasks/{id}/result``: what the skill returned and nothing else, of any size."""
        self._guard.may_read(request)
        try:
            return await answer(await self._task(request), self._payloads, request)
        except SutazaiError as error:
            raise Problem.of(error) from error

    async def find(self, request: Request) -> Response:
        """``GET /tasks``: newest first; ``status`` and ``limit`` select."""
        self._guard.may_read(request)
        limit = _limit(request)
        status = request.query_params.get("status")
        if status is not None and status not in STATES:
            raise Problem(400, "bad-query", f"status must be one of {', '.join(sorted(STATES))}")
        agent = getattr(request.state, "agent", None) or request.query_params.get("agent")
        message = {"t": "list", "agent": agent, "status": status, "limit": limit}
        reply = await self._ask(message, ANSWER_S_MAX)
        return _json({"tasks": reply["tasks"]}, 200)

    async def cancel(self, request: Request) -> Response:
        """``DELETE /tasks/{id}`` or ``POST /tasks/{id}/cancel``: the task, cancelled or ended before."""
        self._guard.may_write(request)
        task = await self._task(request)
        reply = await self._ask({"t": "cancel", "task": task["id"]}, ANSWER_S_MAX)
        return _json(reply["task"], 200)

    async def approve(self, request: Request) -> Response:
        """``POST /tasks/{id}/approve``: yes to the task of the path, or to the one below it that waits for a person."""
        return await self._resolve(request, APPROVE)

    async def deny(self, request: Request) -> Response:
        """``POST /tasks/{id}/deny``: no; the waiting task fails with the code ``denied``."""
        return await self._resolve(request, DENY)

    async def signal(self, request: Request) -> Response:
        """``POST /tasks/{id}/signal``: a signal, its name in ``name`` when several are waited for."""
        return await self._resolve(request, SEND)

    async def _resolve(self, request: Request, verdict: str) -> Response:
        self._guard.may_write(request)
        said = resolution(await read_json(request) if has_body(request) else {}, verdict)
        task = await self._task(request)
        message = {"t": "resolve", "task": task["id"], "verdict": verdict, **said}
        if key := idempotency_key(request):
            message["key"] = key
        found = (await self._ask(message, ANSWER_S_MAX))["task"]
        return _json(found, 202 if "signal_kept" in found else 200)

    async def waiting(self, request: Request) -> Response:
        """``GET /waiting``: tasks that wait for a person or a signal, with what they ask."""
        self._guard.may_read(request)
        return _json({"tasks": (await self._ask({"t": "waiting"}, ANSWER_S_MAX))["tasks"]}, 200)

    async def dead(self, request: Request) -> Response:
        """``GET /tasks/dead-letters``: newest first, with their last turns; ``handled=true`` shows all."""
        self._guard.may_read(request)
        handled = request.query_params.get("handled", "false")
        if handled not in {"true", "false"}:
            raise Problem(400, "bad-query", "handled must be true or false")
        agent = getattr(request.state, "agent", None) or request.query_params.get("agent")
        message = {"t": "dead", "agent": agent, "handled": handled == "true", "limit": _limit(request)}
        reply = await self._ask(message, ANSWER_S_MAX)
        return _json({"tasks": reply["tasks"]}, 200)

    async def schedules(self, request: Request) -> Response:
        """``GET /tasks/schedules``: what is given to agents by the clock, with the next and the last time."""
        self._guard.may_read(request)
        agent = getattr(request.state, "agent", None) or request.query_params.get("agent")
        found = (await self._ask({"t": "schedules"}, ANSWER_S_MAX))["schedules"]
        return _json({"schedules": [entry for entry in found if agent in {None, entry["agent"]}]}, 200)

    async def replay(self, request: Request) -> Response:
        """``POST /tasks/{id}/replay``: 202 and the new task; 200 when it had been replayed before."""
        done = await self._handle("replay", request)
        headers = {"Location": f"/tasks/{done['replay']}"}
        return _json(done, 200 if done["duplicate"] else 202, headers)

    async def discard(self, request: Request) -> Response:
        """``POST /tasks/{id}/discard``: the dead letter counts no more."""
        return _json(await self._handle("discard", request), 200)

    async def _handle(self, kind: str, request: Request) -> dict[str, Any]:
        self._guard.may_write(request)
        task = await self._task(request)
        reply = await self._ask({"t": kind, "tasks": [task["id"]], "by": "http"}, ANSWER_S_MAX)
        done: dict[str, Any] = reply["tasks"][0]
        if "error" in done:
            raise Problem.of(error_of(done["error"]))
        return done

    async def events(self, request: Request) -> Response:
        """``GET /tasks/{id}/events``: what happens to it, as server-sent events, until it ends."""
        self._guard.may_read(request)
        if self._streams >= STREAMS_MAX:
            raise Problem(503, "unavailable", "too many streams are open", headers={"Retry-After": "5"})
        last = request.headers.get("last-event-id", "0")
        task = await self._task(request)
        stream = self._event_lines(task["id"], int(last) if last.isdecimal() else 0)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _event_lines(self, task: str, after_seq: int) -> AsyncIterator[str]:
        """Write events; an idle stream says so now and then, a lost broker ends it so that the client comes again."""
        self._streams += 1
        connection = self._another()
        source = connection.stream({"t": "watch", "task": task})
        pending: asyncio.Task[dict[str, Any] | None] | None = None
        try:
            yield "retry: 1000\n\n"
            while True:
                pending = pending or asyncio.create_task(_next(source))
                await asyncio.wait({pending}, timeout=KEEP_ALIVE_S)
                if not pending.done():
                    yield ": still here\n\n"
                    continue
                message, pending = pending.result(), None
                if message is None:
                    return
                event = message["event"]
                if event["seq"] > after_seq:
                    yield _event(event["kind"], event, event["seq"])
        except SutazaiError as error:
            yield f": {str(error).splitlines()[0]}\n\n"
        finally:
            self._streams -= 1
            if pending is not None:
                pending.cancel()
            await connection.close()

    async def _task(self, request: Request) -> dict[str, Any]:
        """Get the task of the path; on an agent's port only that agent's.

        Raises:
            Problem: 404.
        """
        name = task_id(request)
        task: dict[str, Any] = (await self._ask({"t": "get", "task": name}, ANSWER_S_MAX))["task"]
        agent = getattr(request.state, "agent", None)
        if agent and task.get("agent") != agent:
            raise Problem(404, "not-found", f"{name} is no task of {agent}; it is one of {task.get('agent')}")
        return task

    async def _wait(self, task: str, wait_ms: int) -> dict[str, Any]:
        message = {"t": "wait", "task": task, "timeout_ms": wait_ms}
        try:
            reply = await self._ask(message, wait_ms / 1_000 + WAIT_SLACK_S)
        except Problem as problem:
            if problem.status not in CUT_SHORT:
                raise
            return {"id": task, "status": "queued"}  # it is stored; only the waiting was cut short
        found: dict[str, Any] = reply["task"]
        return found

    async def _ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            return await self._broker.request(message, timeout_s)
        except SutazaiError as error:
            raise Problem.of(error) from error


async def _next(source: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(source, None)


def _limit(request: Request) -> int:
    limit = request.query_params.get("limit", str(LIST_DEFAULT))
    if not limit.isdecimal() or not 1 <= int(limit) <= LIST_MAX:
        raise Problem(400, "bad-query", f"limit must be from 1 to {LIST_MAX}")
    return int(limit)


def _json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _event(kind: str, data: dict[str, Any], seq: int) -> str:
    return f"id: {seq}\nevent: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n"
