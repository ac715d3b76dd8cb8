"""Why it exists: whether an agent or worker is well, what it can do and what it uses is answered without waking it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from sutazai import __version__
from sutazai.gateway import meters
from sutazai.gateway.status import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from sutazai.gateway.directory import Directory
    from sutazai.gateway.reading import Guard
    from sutazai.gateway.status import Reading, StatusCache
    from sutazai.wire.planfacts import AgentFacts


class PageRoutes:
    """Handlers that only read.

    Args:
        directory: the agents.
        status: what they use.
        guard: who may read.
        own: the gateway's own meters.
        connected: whether the broker is reached now.
    """

    def __init__(
        self,
        directory: Directory,
        status: StatusCache,
        guard: Guard,
        own: meters.Meters,
        connected: Callable[[], bool],
    ) -> None:
        self._directory, self._status, self._guard = directory, status, guard
        self._own, self._connected = own, connected
        self._started_s = time.monotonic()

    # ---- one agent

    async def agent_health(self, request: Request) -> Response:
        """The blueprint's form, exactly: status, agent, version, uptime, memory_usage, cpu_usage.

        An agent that is only planned answers in the same form with status ``planned`` and 501, so that no checker takes
        it for a healthy one.
        """
        self._guard.may_read(request)
        if request.state.agent in self._directory.planned():
            return _planned_health(request.state.agent)
        agent = self._directory.agent(request.state.agent)
        reading = await self._status.read()
        usage, state = reading.agent(agent.name), self._state_of(agent.name, reading)
        server = Usage()
        if service := str(agent.upstream.get("service", "")):
            server = reading.process(service)
            state = self._state_of(service, reading) if state == "healthy" else state
            state = "unhealthy" if _is_down(server, reading) else state
        body = {
            "status": state,
            "agent": agent.name,
            "version": agent.version,
            "uptime": self._uptime_s(reading),
            "memory_usage": usage.memory_bytes + server.memory_bytes,
            "cpu_usage": usage.cpu_percent + server.cpu_percent,
        }
        headers = {"X-Sutazai-State": _awake(usage), "X-Sutazai-Instances": str(usage.instances)}
        return _json(body, headers, 503 if state == "unhealthy" else 200)

    async def agent_metrics(self, request: Request) -> Response:
        """Prometheus text of one agent."""
        self._guard.may_read(request)
        agent = self._directory.agent(request.state.agent)
        reading = await self._status.read()
        page = meters.agent_page(agent, reading.agent(agent.name), reading.queues.get(agent.name, {}))
        return Response(page + self._own.door_page(f"agent:{agent.name}"), media_type=meters.CONTENT_TYPE)

    async def agent_skills(self, request: Request) -> Response:
        """What an agent can do, with JSON schemas of input and output."""
        self._guard.may_read(request)
        agent = self._directory.agent(request.state.agent)
        return _json({"agent": agent.name, "version": agent.version, "skills": agent.skills})

    async def agent_index(self, request: Request) -> Response:
        """One agent: where it is and how it is."""
        self._guard.may_read(request)
        agent = self._directory.agent(request.state.agent)
        return _json(self._summary(agent, await self._status.read()))

    # ---- the edge

    async def agents(self, request: Request) -> Response:
        """All agents of the fleet."""
        self._guard.may_read(request)
        reading = await self._status.read()
        planned = self._directory.planned().values()
        return _json(
            {
                "agents": [self._summary(agent, reading) for agent in self._directory.agents().values()],
                "planned": [
                    {"name": one.name, "port": one.ports[0] if one.ports else 0, "description": one.description}
                    for one in planned
                ],
            }
        )

    async def edge_health(self, request: Request) -> Response:
        """The gateway itself: it is healthy when it reaches the broker."""
        self._guard.may_read(request)
        reading = await self._status.read()
        usage = reading.process("gateway")
        body = {
            "status": "healthy" if self._connected() else "degraded",
            "agent": "gateway",
            "version": __version__,
            "uptime": round(time.monotonic() - self._started_s, 3),
            "memory_usage": usage.memory_bytes,
            "cpu_usage": usage.cpu_percent,
        }
        return _json(body, {"X-Sutazai-Fleet": reading.state})

    async def edge_metrics(self, request: Request) -> Response:
        """The gateway's own metrics."""
        self._guard.may_read(request)
        return Response(self._own.page(), media_type=meters.CONTENT_TYPE)

    # ---- a worker

    async def worker_health(self, request: Request) -> Response:
        """A worker, in the form of an agent's health; 503 when ``sutazaid`` says that it does not run."""
        self._guard.may_read(request)
        name: str = request.state.worker
        reading = await self._status.read()
        usage = reading.process(name)
        down = _is_down(usage, reading)
        body = {
            "status": "unhealthy" if down else self._state_of(name, reading),
            "agent": name,
            "version": __version__,
            "uptime": _since_s(usage.started_wall_ms),
            "memory_usage": usage.memory_bytes,
            "cpu_usage": usage.cpu_percent,
        }
        return _json(body, {"X-Sutazai-State": ",".join(usage.states) or "unknown"}, 503 if down else 200)

    async def worker_metrics(self, request: Request) -> Response:
        """Prometheus text of one worker."""
        self._guard.may_read(request)
        name: str = request.state.worker
        page = meters.worker_page(name, (await self._status.read()).process(name))
        return Response(page, media_type=meters.CONTENT_TYPE)

    # ---- parts

    def _summary(self, agent: AgentFacts, reading: Reading) -> dict[str, Any]:
        usage = reading.agent(agent.name)
        return {
            "name": agent.name,
            "port": agent.port,
            "version": agent.version,
            "pool": agent.pool,
            "status": self._state_of(agent.name, reading),
            "state": _awake(usage),
            "instances": usage.instances,
            "memory_bytes": usage.memory_bytes,
            "queue": reading.queues.get(agent.name, {}),
            "skills": [skill.get("name") for skill in agent.skills],
        }

    def _state_of(self, subject: str, reading: Reading) -> str:
        """``degraded`` while something about it needs somebody, or its work cannot be stored."""
        return "degraded" if reading.conditions.get(subject) or not self._connected() else "healthy"

    def _uptime_s(self, reading: Reading) -> float:
        """An agent exists since its fleet is up, asleep or awake."""
        if reading.since_wall_ms:
            return _since_s(reading.since_wall_ms)
        return round(time.monotonic() - self._started_s, 3)


def _planned_health(name: str) -> Response:
    body = {"status": "planned", "agent": name, "version": "0", "uptime": 0.0, "memory_usage": 0, "cpu_usage": 0.0}
    return _json(body, {"X-Sutazai-State": "planned", "X-Sutazai-Instances": "0"}, 501)


_DOWN = frozenset({"waiting", "backoff", "stopped", "done"})


def _is_down(usage: Usage, reading: Reading) -> bool:
    return reading.known and (not usage.known or any(state in _DOWN for state in usage.states))


def _awake(usage: Usage) -> str:
    if not usage.known:
        return "unknown"
    return "awake" if usage.instances else "hibernated"


def _since_s(wall_ms: int) -> float:
    return round(max(0.0, time.time() - wall_ms / 1_000), 3) if wall_ms else 0.0


def _json(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")
