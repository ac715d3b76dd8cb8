"""Why it exists: how many requests each door got and how long they took, and what an agent's own page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from sutazai.telemetry.names import metric, series_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.gateway.status import Usage
    from sutazai.wire.planfacts import AgentFacts

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Sample = tuple[str, dict[str, str], float]


class Meters:
    """The gateway's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(*_named("http_requests_total"), registry=self._registry)
        self._seconds = Histogram(*_named("http_request_duration_seconds"), registry=self._registry, buckets=_BUCKETS_S)

    def answered(self, door: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(door, str(status)).inc()
        self._seconds.labels(door).observe(seconds)

    def page(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self._registry)

    def door_page(self, door: str) -> bytes:
        """Those of one door."""
        mark = f'door="{door}"'
        lines = self.page().decode().splitlines()
        return "".join(f"{line}\n" for line in lines if line.startswith("#") or mark in line).encode()


def agent_page(agent: AgentFacts, usage: Usage, queue: dict[str, int]) -> bytes:
    """An agent's own metrics; what nobody knows now is left out."""
    labels = {"agent": agent.name}
    samples: list[Sample] = [("agent_memory_limit_bytes", labels, agent.memory_bytes)]
    if usage.known:
        samples += [
            ("instances", labels, usage.instances),
            ("agent_memory_bytes", labels, usage.memory_bytes),
            ("agent_memory_peak_bytes", labels, usage.memory_peak_bytes),
        ]
    samples += [("queue_tasks", {**labels, "state": state}, count) for state, count in queue.items()]
    return render(samples)


def worker_page(name: str, usage: Usage) -> bytes:
    """A worker's own metrics."""
    labels = {"process": name}
    samples: list[Sample] = [("process_up", labels, int(usage.known))]
    if usage.known:
        samples.append(("process_memory_bytes", labels, usage.memory_bytes))
    return render(samples)


def render(samples: Iterable[Sample]) -> bytes:
    """Write samples in Prometheus' text form, with help and type from the table of names."""
    lines: list[str] = []
    last = ""
    for name, labels, value in samples:
        if name != last:
            fact = metric(name)
            lines += [f"# HELP {name} {fact.help}", f"# TYPE {name} {fact.type}"]
            last = name
        lines.append(f"{series_name(name, labels)} {value}")
    return ("\n".join(lines) + "\n").encode()


def _named(name: str) -> tuple[str, str, tuple[str, ...]]:
    fact = metric(name)
    return fact.name, fact.help, fact.labels
