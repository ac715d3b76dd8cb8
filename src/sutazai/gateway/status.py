"""Why it exists: memory, CPU and instances are known to ``sutazaid`` and told by control; health pages need them often.

One reading is shared by all requests of a second. When control does not answer, the last reading serves for a while,
and then the pages say that they do not know: a health page never fails because somebody else is down.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

FRESH_S = 1.0
STALE_S_MAX = 10.0
RETRY_S = 0.5
ANSWER_S_MAX = 1.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
_HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """What an agent or a worker uses now.

    Attributes:
        known: whether anybody could say; all else is zero otherwise.
        instances: processes of it in memory.
        memory_bytes: charged to their control groups.
        memory_peak_bytes: highest of one of them.
        cpu_percent: of one core, since the reading before.
        started_wall_ms: of the oldest, 0 for none.
        states: of each instance.
    """

    known: bool = False
    instances: int = 0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_percent: float = 0.0
    started_wall_ms: int = 0
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of control, arranged by who it is about.

    Attributes:
        at_wall_ms: when ``sutazaid`` took it; 0 when nobody answered.
        since_wall_ms: when the fleet came up.
        state: of the fleet, ``unknown`` when nobody answered.
        agents: usage by agent.
        processes: usage by process; workers are among them.
        queues: open tasks by agent and state.
        conditions: active ones that need somebody, by subject.
        cpu_usec: counters by ticket or process, to compute the next reading's percentages.
    """

    at_wall_ms: int = 0
    since_wall_ms: int = 0
    state: str = "unknown"
    agents: dict[str, Usage] = field(default_factory=dict)
    processes: dict[str, Usage] = field(default_factory=dict)
    queues: dict[str, dict[str, int]] = field(default_factory=dict)
    conditions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cpu_usec: dict[str, int] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether control has answered."""
        return self.at_wall_ms > 0

    def agent(self, name: str) -> Usage:
        """Usage of an agent; one that has no instance uses nothing."""
        return self.agents.get(name) or Usage(known=self.known)

    def process(self, name: str) -> Usage:
        """Usage of a process; unknown when it is not listed."""
        return self.processes.get(name) or Usage()


class StatusCache:
    """The newest reading, fetched when somebody asks for it.

    Args:
        socket: control's.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._reading = Reading()
        self._read_s = self._tried_s = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self) -> Reading:
        """Give a reading that is at most ``FRESH_S`` old, or the best there is."""
        if time.monotonic() - self._read_s > FRESH_S:
            async with self._lock:  # one fetch, however many ask
                await self._refresh()
        if time.monotonic() - self._read_s > STALE_S_MAX:
            self._reading = Reading()
        return self._reading

    async def _refresh(self) -> None:
        now_s = time.monotonic()
        if now_s - self._read_s <= FRESH_S or now_s - self._tried_s < RETRY_S:
            return
        self._tried_s = now_s
        try:
            status = await get_json(self._socket, "/v1/status")
            self._reading = arrange(status, self._reading)
            self._read_s = time.monotonic()
        except (UnavailableError, KeyError, TypeError, ValueError, AttributeError):
            return  # the age of what we have tells


def arrange(status: dict[str, Any], before: Reading) -> Reading:
    """Arrange control's answer by subject; ``before`` gives the counters that percentages are computed from."""
    at_wall_ms = int(status.get("at_wall_ms") or time.time_ns() // 1_000_000)
    cpu_usec: dict[str, int] = {}

    def usage(entry: dict[str, Any], key: str) -> Usage:
        cpu_usec[key] = int(entry.get("cpu_usec") or 0)
        return Usage(
            known=True,
            instances=1,
            memory_bytes=int(entry.get("memory_bytes") or 0),
            memory_peak_bytes=int(entry.get("memory_peak_bytes") or 0),
            cpu_percent=_cpu_percent(entry, key, at_wall_ms, before),
            started_wall_ms=int(entry.get("started_wall_ms") or 0),
            states=(str(entry.get("state", "")),),
        )

    agents: dict[str, Usage] = {}
    for entry in status.get("instances", ()):
        name = entry["agent"]
        agents[name] = _sum(agents.get(name), usage(entry, entry["ticket"]))
    conditions: dict[str, list[dict[str, Any]]] = {}
    for condition in status.get("conditions", ()):
        if condition.get("severity") != "info":
            conditions.setdefault(str(condition.get("subject")), []).append(condition)
    return Reading(
        at_wall_ms=at_wall_ms,
        since_wall_ms=int(status.get("since_wall_ms") or 0),
        state=str(status.get("state", "unknown")),
        agents=agents,
        processes={entry["name"]: usage(entry, entry["name"]) for entry in status.get("processes", ())},
        queues=dict(status.get("queues") or {}),
        conditions=conditions,
        cpu_usec=cpu_usec,
    )


def _cpu_percent(entry: dict[str, Any], key: str, at_wall_ms: int, before: Reading) -> float:
    """Share of one core since the reading before, or since the start when there is none."""
    used_usec = int(entry.get("cpu_usec") or 0)
    since_ms, base_usec = int(entry.get("started_wall_ms") or at_wall_ms), 0
    if key in before.cpu_usec and before.at_wall_ms < at_wall_ms and before.cpu_usec[key] <= used_usec:
        since_ms, base_usec = before.at_wall_ms, before.cpu_usec[key]
    return round((used_usec - base_usec) / 10 / max(at_wall_ms - since_ms, 1), 2)


def _sum(one: Usage | None, other: Usage) -> Usage:
    if one is None:
        return other
    return Usage(
        known=True,
        instances=one.instances + other.instances,
        memory_bytes=one.memory_bytes + other.memory_bytes,
        memory_peak_bytes=max(one.memory_peak_bytes, other.memory_peak_bytes),
        cpu_percent=round(one.cpu_percent + other.cpu_percent, 2),
        started_wall_ms=min(one.started_wall_ms, other.started_wall_ms),
        states=one.states + other.states,
    )


async def get_json(socket: Path, path: str) -> dict[str, Any]:
    """GET a JSON object over a unix socket.

    Raises:
        UnavailableError: nobody answers in time, or the answer is no JSON object with status 200.
    """
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=ANSWER_BYTES_MAX)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: control\r\nAccept: application/json\r\n\r\n".encode())
                await writer.drain()
                answer = await _read_all(reader)
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if int(head.split(b" ", 2)[1]) != _HTTP_OK:
            raise UnavailableError(f"control answered {head.splitlines()[0].decode(errors='replace')}")
        return msgspec.json.decode(body, type=dict[str, Any])
    except (OSError, TimeoutError, ValueError, IndexError, msgspec.DecodeError) as error:
        raise UnavailableError(f"control does not answer: {error}") from error


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(65_536):
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too large")
    return bytes(data)
