"""Why it exists: one application serves all sockets; the local port tells which agent or worker a request is for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route, Router

from sutazai.errors import SutazaiError
from sutazai.gateway.callers import admit
from sutazai.gateway.directory import Directory, Door
from sutazai.gateway.forward import forward
from sutazai.gateway.meters import Meters
from sutazai.gateway.pages import PageRoutes
from sutazai.gateway.problems import Problem
from sutazai.gateway.reading import Guard
from sutazai.gateway.status import StatusCache
from sutazai.gateway.tasks import TaskRoutes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from pathlib import Path

    from starlette.responses import Response

    from sutazai.gateway.callers import Limiter
    from sutazai.gateway.tasks import Broker

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Handler = Callable[[Request], Awaitable[Response]]

RECONNECT_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the gateway finds what it needs.

    Attributes:
        plan: facts about the agents.
        control_socket: facts about what they use.
        token: the secret for writes.
        payloads: folder of results that lie in files.
    """

    plan: Path
    control_socket: Path
    token: Path
    payloads: Path


class Gateway:
    """The ASGI application.

    Args:
        places: files and sockets.
        connect: makes a connection to the broker; it reconnects by itself.
        doors: what each local port is for; an unknown port is the edge.
        limiter: counts callers; None: they may ask as often as they like.

    Raises:
        ConfigError: the plan cannot be read.
    """

    def __init__(
        self, places: Places, connect: Callable[[], Broker], doors: Mapping[int, Door], limiter: Limiter | None = None
    ) -> None:
        self._limiter = limiter
        broker = connect()
        self._broker, self._doors = broker, dict(doors)
        self._directory = Directory(places.plan)
        self._meters = Meters()
        guard = Guard(places.token)
        status = StatusCache(places.control_socket)
        pages = PageRoutes(self._directory, status, guard, self._meters, lambda: broker.connected)
        tasks = TaskRoutes(broker, self._directory, guard, connect, places.payloads)
        self._routers = {
            "edge": Router([*_edge_routes(pages, tasks), *_agent_routes(pages, tasks, "/agents/{agent}")]),
            "agent": Router(_agent_routes(pages, tasks, "")),
            "worker": Router(
                [
                    Route("/health", pages.worker_health, methods=["GET"]),
                    Route("/metrics", pages.worker_metrics, methods=["GET"]),
                ]
            ),
        }
        self._guard = guard
        for router in self._routers.values():
            router.redirect_slashes = False
            router.default = _nothing_here
        self._routers["agent"].default = self._hand_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun_s = time.monotonic()
        door = self._doors.get((scope.get("server") or ("", 0))[1] or 0) or _EDGE
        scope["state"] = {"agent": door.subject} if door.kind == "agent" else {"worker": door.subject}
        scope["app"] = self  # routers raise what they refuse only inside an application
        status = 0

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        route: Any = self._routers[door.kind]
        if door.kind == "agent" and scope["path"] == "/" and self._is_server(door.subject):
            route = self._hand_on  # the first page is the server's
        try:
            if self._limiter is not None:
                await admit(self._limiter, Request(scope))
            await route(scope, receive, counted)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            problem = _problem(error, scope)
            if status:
                raise  # the head is out: only closing the connection tells the client
            await problem.response()(scope, receive, counted)
        finally:
            self._meters.answered(door.name, status, time.monotonic() - begun_s)

    def _is_server(self, agent: str) -> bool:
        found = self._directory.agents().get(agent)
        return found is not None and bool(found.upstream)

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What an agent's door does not know is for the server behind the agent, if there is one."""
        agent = self._directory.agent(scope["state"]["agent"])
        if not agent.upstream:
            await _nothing_here(scope, receive, send)
        request = Request(scope, receive, send)
        self._guard.may_read(request)
        hide_token = self._guard.has_token(request)  # a server must not learn what opens the whole fleet
        await forward(request, str(agent.upstream["url"]), send, hide_token=hide_token)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        keeping = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                keeping = asyncio.create_task(self._keep_connected(), name="keep-connected")
                await send({"type": "lifespan.startup.complete"})
            else:
                if keeping is not None:
                    keeping.cancel()
                await self._broker.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _keep_connected(self) -> None:
        """Come back to the broker also when nobody asks, so that ``/health`` tells the truth."""
        while True:
            with contextlib.suppress(SutazaiError):  # the next round tries again
                await self._broker.connect()
            await asyncio.sleep(RECONNECT_S)


_EDGE = Door("edge", "edge")


def _edge_routes(pages: PageRoutes, tasks: TaskRoutes) -> list[Route]:
    return [
        Route("/health", pages.edge_health, methods=["GET"]),
        Route("/metrics", pages.edge_metrics, methods=["GET"]),
        Route("/agents", pages.agents, methods=["GET"]),
        Route("/tasks", tasks.find, methods=["GET"]),
        Route("/waiting", tasks.waiting, methods=["GET"]),
        Route("/tasks/dead-letters", tasks.dead, methods=["GET"]),
        Route("/tasks/schedules", tasks.schedules, methods=["GET"]),
        *_task_routes(tasks, "/tasks/{task}"),
    ]


def _agent_routes(pages: PageRoutes, tasks: TaskRoutes, prefix: str) -> list[Route]:
    return [
        Route(prefix or "/", _of_agent(pages.agent_index), methods=["GET"]),
        Route(f"{prefix}/health", _of_agent(pages.agent_health), methods=["GET"]),
        Route(f"{prefix}/metrics", _of_agent(pages.agent_metrics), methods=["GET"]),
        Route(f"{prefix}/skills", _of_agent(pages.agent_skills), methods=["GET"]),
        Route(f"{prefix}/tasks", _of_agent(tasks.submit, tasks.find), methods=["GET", "POST"]),
        Route(f"{prefix}/tasks/dead-letters", _of_agent(tasks.dead), methods=["GET"]),
        Route(f"{prefix}/tasks/schedules", _of_agent(tasks.schedules), methods=["GET"]),
        *_task_routes(tasks, f"{prefix}/tasks/{{task}}"),
    ]


def _task_routes(tasks: TaskRoutes, path: str) -> list[Route]:
    return [
        Route(path, _of_agent(tasks.cancel, tasks.show), methods=["GET", "DELETE"]),
        Route(f"{path}/result", _of_agent(tasks.result), methods=["GET"]),
        Route(f"{path}/events", _of_agent(tasks.events), methods=["GET"]),
        Route(f"{path}/cancel", _of_agent(tasks.cancel), methods=["POST"]),
        Route(f"{path}/approve", _of_agent(tasks.approve), methods=["POST"]),
        Route(f"{path}/deny", _of_agent(tasks.deny), methods=["POST"]),
        Route(f"{path}/signal", _of_agent(tasks.signal), methods=["POST"]),
        Route(f"{path}/replay", _of_agent(tasks.replay), methods=["POST"]),
        Route(f"{path}/discard", _of_agent(tasks.discard), methods=["POST"]),
    ]


def _of_agent(write: Handler, read: Handler | None = None) -> Handler:
    """Let a handler see the agent of the path like that of the port; choose the reading one for GET and HEAD."""

    async def handle(request: Request) -> Response:
        if agent := request.path_params.get("agent"):
            request.state.agent = agent
        return await (read if read and request.method in {"GET", "HEAD"} else write)(request)

    return handle


async def _nothing_here(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise Problem(404, "not-found", f"there is no {scope['path'][:200]} here")


def _problem(error: Exception, scope: Scope) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        detail = f"{scope['method']} is not for {scope['path'][:200]}" if error.status_code == 405 else error.detail  # noqa: PLR2004
        code = "method-not-allowed" if error.status_code == 405 else "not-found"  # noqa: PLR2004
        return Problem(error.status_code, code, detail, headers=dict(error.headers or {}))
    _log.error("a request failed: %s %s", scope["method"], scope["path"], exc_info=error)
    return Problem(500, "internal", "the gateway failed; see its log")
