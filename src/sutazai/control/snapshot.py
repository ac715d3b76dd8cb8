"""Why it exists: one second's facts are taken once and never change, so that sampling, events and answers agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether control reached one of those whom it asks.

    Attributes:
        up: whether the last question was answered.
        at_wall_ms: time of the last answer, 0 when there was none.
        error: why there was no answer.
    """

    up: bool = False
    at_wall_ms: int = 0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As ``/v1/status`` gives it."""
        return {"up": self.up, "at_wall_ms": self.at_wall_ms, "error": self.error}


@dataclass(frozen=True, slots=True)
class HostSample:
    """What control reads of the machine itself.

    Attributes:
        memory_total_bytes: of the machine.
        memory_available_bytes: ``MemAvailable``.
        cpu_busy_ratio: share of all cores that was busy since the last sample, None at the first.
        load1: load average over a minute.
        pressure: by resource, share of the last 10 s in which something waited.
        pressure_cpu_minute: the same for the CPU over 60 s.
        disk_free_bytes: of the file system with the fleet's state, None when it cannot be read.
    """

    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    cpu_busy_ratio: float | None = None
    load1: float = 0.0
    pressure: dict[str, float] = field(default_factory=dict)
    pressure_cpu_minute: float = 0.0
    disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All facts of one second.

    Attributes:
        at_wall_ms: when it was taken.
        status: ``sutazaid``'s answer, None when there was none.
        stats: the broker's answer, None when there was none.
        host: the machine.
        supervisor: whether ``sutazaid`` answered.
        broker: whether the broker answered.
        supervisor_pid: process id of ``sutazaid``, 0 when unknown.
        took_s: how long the asking took.
        model_up: False while the model server says that its model, which runs elsewhere, is away.
    """

    at_wall_ms: int
    status: dict[str, Any] | None
    stats: dict[str, Any] | None
    host: HostSample
    supervisor: SourceState
    broker: SourceState
    supervisor_pid: int = 0
    took_s: float = 0.0
    model_up: bool = True

    def processes(self) -> list[dict[str, Any]]:
        """Entries of processes, empty when unknown."""
        return list((self.status or {}).get("processes") or ())

    def instances(self) -> list[dict[str, Any]]:
        """Entries of instances, empty when unknown."""
        return list((self.status or {}).get("instances") or ())

    def conditions(self) -> list[dict[str, Any]]:
        """Entries of conditions as ``sutazaid`` gives them, empty when unknown."""
        return list((self.status or {}).get("conditions") or ())
