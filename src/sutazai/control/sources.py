"""Why it exists: those whom control asks every second may be gone for a while; asking again for ever is done here.

Blocking, short timeouts, one connection each, used by the sampler's thread only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sutazai.client import http
from sutazai.client.supervisor import SupervisorClient
from sutazai.control import exposition
from sutazai.control.snapshot import HostSample, SourceState
from sutazai.errors import SutazaiError
from sutazai.host import disk, procfs, psi
from sutazai.wire.messages import PROTOCOL_VERSION
from sutazai.wire.transport import BlockingConnection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai.telemetry.ring_file import Series

ANSWER_S_MAX = 2.0
PAGE_S_MAX = 0.5
PAGE_TICKS = 5
HTTP_OK = 200


class Supervisor:
    """``sutazaid``, asked for its status."""

    def __init__(self, fleet: str, wall_ms: Callable[[], int]) -> None:
        """Connects when it is first asked."""
        self._client = SupervisorClient(fleet, timeout_s=ANSWER_S_MAX, name="control.sampler")
        self._wall_ms = wall_ms
        self.state = SourceState()

    def status(self) -> dict[str, Any] | None:
        """Its snapshot, or None when it does not answer."""
        try:
            answer = self._client.status()
        except SutazaiError as error:
            self._client.close()
            self.state = SourceState(up=False, at_wall_ms=self.state.at_wall_ms, error=str(error))
            return None
        self.state = SourceState(up=True, at_wall_ms=self._wall_ms())
        return answer

    def condition(self, name: str, subject: str, *, active: bool, text: str) -> None:
        """Raise or clear a condition there; when it does not answer, the next tick tries again."""
        try:
            self._client.condition(name, subject, active=active, text=text)
        except SutazaiError as error:
            self._client.close()
            self.state = SourceState(up=False, at_wall_ms=self.state.at_wall_ms, error=str(error))

    @property
    def pid(self) -> int:
        """Process id of ``sutazaid``, 0 when it is not connected."""
        return self._client.pid

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Broker:
    """The broker, asked for its numbers."""

    def __init__(self, socket_path: Path, wall_ms: Callable[[], int]) -> None:
        """Connects when it is first asked."""
        self._path, self._wall_ms = socket_path, wall_ms
        self._connection: BlockingConnection | None = None
        self.state = SourceState()

    def stats(self) -> dict[str, Any] | None:
        """Its numbers, or None when it does not answer."""
        try:
            answer = self._ask()
        except SutazaiError as error:
            self.close()
            self.state = SourceState(up=False, at_wall_ms=self.state.at_wall_ms, error=str(error))
            return None
        self.state = SourceState(up=True, at_wall_ms=self._wall_ms())
        return answer

    def _ask(self) -> dict[str, Any]:
        if self._connection is None:
            self._connection = BlockingConnection.connect(self._path, ANSWER_S_MAX)
            hello = {"t": "hello", "v": PROTOCOL_VERSION, "role": "client", "name": "control"}
            self._connection.request(hello, ANSWER_S_MAX)
        answer = self._connection.request({"t": "stats"}, ANSWER_S_MAX)
        return {key: value for key, value in answer.items() if key not in {"t", "re", "id"}}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ModelServer:
    """The language model server, whose page of metrics is read now and then."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._values: dict[Series, float] = {}
        self._wait = 0

    def values(self, processes: list[dict[str, Any]]) -> dict[Series, float]:
        """Its sampled numbers; from a page read some seconds ago at most, none while it is away."""
        server = next((entry for entry in processes if entry.get("kind") == "llm" and entry.get("ready")), None)
        port = next((listen["port"] for listen in (server or {}).get("listen") or () if listen.get("port")), 0)
        if not port:
            self._values, self._wait = {}, 0
            return self._values
        self._wait -= 1
        if self._wait < 0:
            self._wait = PAGE_TICKS
            try:
                status, body = http.fetch(("127.0.0.1", int(port)), "/metrics", PAGE_S_MAX)
                self._values = exposition.parse(body.decode("utf-8", "replace")) if status == HTTP_OK else {}
            except (OSError, SutazaiError):
                self._values = {}
        return self._values

    def is_up(self) -> bool:
        """Whether its model can answer, as its last page says; True while nothing is known."""
        return all(value for series, value in self._values.items() if series.name == "ai_model_up")


class Machine:
    """The machine, read from ``/proc``."""

    def __init__(self, state_dir: Path) -> None:
        """Remember where the fleet's state lies."""
        self._state_dir = state_dir
        self._before: procfs.CoreTimes | None = None

    def sample(self) -> HostSample:
        """Read it."""
        memory = procfs.meminfo()
        now = procfs.core_times().get(-1)
        busy = procfs.busy_ratio(self._before, now) if self._before is not None and now is not None else None
        self._before = now
        pressures = {resource: psi.read(resource) for resource in psi.RESOURCES}
        processor = pressures["cpu"]
        return HostSample(
            memory_total_bytes=memory.total_bytes,
            memory_available_bytes=memory.available_bytes,
            cpu_busy_ratio=busy,
            load1=procfs.load1(),
            pressure={name: found.some.avg10 / 100 for name, found in pressures.items() if found is not None},
            pressure_cpu_minute=processor.some.avg60 / 100 if processor is not None else 0.0,
            disk_free_bytes=self._disk_free_bytes(),
        )

    def _disk_free_bytes(self) -> int | None:
        try:
            return disk.free_bytes(self._state_dir)
        except OSError:
            return None


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
