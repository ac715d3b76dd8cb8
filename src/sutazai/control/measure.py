"""Why it exists: a snapshot becomes numbers with names, once, for the ring and for Prometheus alike. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sutazai.telemetry.names import metric
from sutazai.telemetry.ring_file import Series

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sutazai.control.snapshot import Snapshot

_MICROSECONDS = 1_000_000

#: Metric, field of a process' entry, and what one unit of the field is worth.
_PROCESS_FIELDS = (
    ("process_memory_bytes", "memory_bytes", 1.0),
    ("process_memory_limit_bytes", "memory_limit_bytes", 1.0),
    ("process_memory_peak_bytes", "memory_peak_bytes", 1.0),
    ("process_cpu_seconds_total", "cpu_usec", 1 / _MICROSECONDS),
    ("process_pids", "pids", 1.0),
    ("process_restarts_total", "restarts", 1.0),
    ("process_oom_kills_total", "oom_kills", 1.0),
)
_POOL_FIELDS = (
    ("pool_used_bytes", "used_bytes"),
    ("pool_reserved_bytes", "reserved_bytes"),
    ("pool_size_bytes", "size_bytes"),
    ("pool_instances", "instances"),
    ("pool_waiting", "waiting"),
)
_QUEUE_STATES = ("queued", "leased", "waiting", "dead")
_BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}
_QUANTILES = (("0.5", "p50"), ("0.99", "p99"), ("1", "max"))
_STORE_PARTS = (("data", "bytes"), ("wal", "wal_bytes"))
_CACHE_OUTCOMES = ("hit", "miss", "set", "deleted", "failed")
_SIGNALS = ("published", "failed", "delivered", "used", "surplus", "direct", "swept", "undeliverable")


@lru_cache(maxsize=16_384)
def series(name: str, *values: str) -> Series:
    """Name a series by its metric and its labels' values, in the table's order."""
    return Series(name, tuple(zip(metric(name).labels, values, strict=True)))


class AgentTotals:
    """Counters of agents that outlive their instances. They start anew with control."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._last: dict[str, tuple[str, int, int]] = {}  # by ticket: agent, CPU, kills
        self._cpu_usec: Counter[str] = Counter()
        self._oom_kills: Counter[str] = Counter()
        self._wakes: Counter[str] = Counter()

    def update(self, instances: list[dict[str, Any]]) -> None:
        """Take a snapshot's instances."""
        now = {}
        for entry in instances:
            ticket, agent = str(entry.get("ticket")), str(entry.get("agent"))
            known = self._last.get(ticket)
            _, cpu_before, kills_before = known or ("", 0, 0)
            cpu = max(_whole(entry.get("cpu_usec")), cpu_before)
            kills = max(_whole(entry.get("oom_kills")), kills_before)
            self._cpu_usec[agent] += cpu - cpu_before
            self._oom_kills[agent] += kills - kills_before
            self._wakes[agent] += known is None
            now[ticket] = (agent, cpu, kills)
        self._last = now

    def values(self) -> dict[Series, float]:
        """The counters."""
        found: dict[Series, float] = {}
        for agent in self._wakes:
            found[series("agent_cpu_seconds_total", agent)] = self._cpu_usec[agent] / _MICROSECONDS
            found[series("agent_oom_kills_total", agent)] = self._oom_kills[agent]
            found[series("agent_wakes_total", agent)] = self._wakes[agent]
        return found


def values_of(
    snapshot: Snapshot, agents: Collection[str], totals: AgentTotals, kills: Mapping[str, int] = MappingProxyType({})
) -> dict[Series, float]:
    """All sampled numbers of a snapshot.

    Args:
        snapshot: the facts.
        agents: names of all agents of the plan, so that one without an instance shows zero.
        totals: counters that go on from snapshot to snapshot.
        kills: kills at the memory limit by process or agent, as the events count them: a group's own counter is gone
            with the group.
    """
    found: dict[Series, float] = {}
    if snapshot.status is not None:
        totals.update(snapshot.instances())
        _processes(found, snapshot.processes())
        _agents(found, snapshot.instances(), agents)
        _pools(found, snapshot.status.get("pools") or ())
        found |= totals.values()
        for subject, count in kills.items():
            name = "agent_oom_kills_total" if subject in agents else "process_oom_kills_total"
            found[series(name, subject)] = max(found.get(series(name, subject), 0), count)
        severities = Counter(str(entry.get("severity")) for entry in snapshot.conditions())
        for severity in ("critical", "warning", "info"):
            found[series("conditions_active", severity)] = severities[severity]
    if snapshot.stats is not None:
        _work(found, snapshot.stats)
    _host(found, snapshot)
    found[series("control_sample_seconds")] = snapshot.took_s
    found[series("control_source_up", "sutazaid")] = snapshot.supervisor.up
    found[series("control_source_up", "broker")] = snapshot.broker.up
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def _processes(found: dict[Series, float], entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        name = str(entry.get("name"))
        for metric_name, field, worth in _PROCESS_FIELDS:
            value = entry.get(field)
            if isinstance(value, (int, float)):
                found[series(metric_name, name)] = value * worth
        found[series("process_up", name)] = 1 if entry.get("pid") else 0
        found[series("process_ready", name)] = 1 if entry.get("ready") else 0
        probe = entry.get("probe")
        if isinstance(probe, dict) and probe.get("checked_wall_ms"):
            found[series("probe_success", name)] = 1 if probe.get("ok") else 0
            found[series("probe_duration_seconds", name)] = _number(probe.get("latency_ms")) / 1_000


def _agents(found: dict[Series, float], instances: list[dict[str, Any]], agents: Collection[str]) -> None:
    for agent in agents:
        found[series("instances", agent)] = 0
        found[series("agent_memory_bytes", agent)] = 0
    for entry in instances:
        agent = str(entry.get("agent"))
        for name in ("instances", "agent_memory_bytes"):
            value = 1 if name == "instances" else _number(entry.get("memory_bytes"))
            found[series(name, agent)] = found.get(series(name, agent), 0) + value
        peak = series("agent_memory_peak_bytes", agent)
        found[peak] = max(found.get(peak, 0), _number(entry.get("memory_peak_bytes")))
        found[series("agent_memory_limit_bytes", agent)] = _number(entry.get("memory_limit_bytes"))


def _pools(found: dict[Series, float], entries: Collection[dict[str, Any]]) -> None:
    for entry in entries:
        for name, field in _POOL_FIELDS:
            found[series(name, str(entry.get("name")))] = _number(entry.get(field))


def _work(found: dict[Series, float], stats: dict[str, Any]) -> None:
    for agent, queue in (stats.get("queues") or {}).items():
        for state in _QUEUE_STATES:
            found[series("queue_tasks", agent, state)] = _number(queue.get(state))
    for outcome, count in (stats.get("totals") or {}).items():
        found[series("tasks_total", outcome)] = _number(count)
    _guards(found, stats)
    _dispatch(found, stats.get("dispatch") or {})
    _store(found, stats.get("store") or {})
    _cache(found, stats.get("cache") or {})
    for quantile, suffix in _QUANTILES:
        for stage, summary in (stats.get("latency") or {}).items():
            if summary.get("count") and f"{suffix}_ms" in summary:
                found[series("task_latency_seconds", stage, quantile)] = _number(summary[f"{suffix}_ms"]) / 1_000


def _guards(found: dict[Series, float], stats: dict[str, Any]) -> None:
    for agent, entry in (stats.get("breakers") or {}).items():
        found[series("breaker_state", agent)] = _BREAKER_STATES.get(str(entry.get("state")), 0)
        found[series("breaker_opened_total", agent)] = _number(entry.get("opened"))
        found[series("breaker_refused_total", agent)] = _number(entry.get("refused"))
    for agent, entry in (stats.get("budgets") or {}).items():
        found[series("retry_budget_tokens", agent)] = _number(entry.get("tokens"))
        found[series("retries_delayed_total", agent)] = _number(entry.get("delayed"))


def _store(found: dict[Series, float], store: dict[str, Any]) -> None:
    if "away" in store:
        found[series("store_up")] = float(not store["away"])
    for part, field in _STORE_PARTS:
        if field in store:
            found[series("store_bytes", part)] = _number(store[field])
    for quantile, suffix in _QUANTILES:
        if f"commit_ms_{suffix}" in store:
            found[series("store_commit_seconds", quantile)] = _number(store[f"commit_ms_{suffix}"]) / 1_000


def _cache(found: dict[Series, float], cache: dict[str, Any]) -> None:
    if "driver" in cache:
        found[series("cache_up", str(cache["driver"]))] = float(cache.get("state") == "up")
    for outcome in _CACHE_OUTCOMES:
        if outcome in cache:
            found[series("cache_requests_total", outcome)] = _number(cache[outcome])


def _dispatch(found: dict[Series, float], dispatch: dict[str, Any]) -> None:
    if "driver" in dispatch:
        found[series("dispatch_up", str(dispatch["driver"]))] = float(dispatch.get("state") == "up")
    for kind in _SIGNALS:
        if kind in dispatch:
            found[series("dispatch_signals_total", kind)] = _number(dispatch[kind])


def _host(found: dict[Series, float], snapshot: Snapshot) -> None:
    told = (snapshot.status or {}).get("host") or {}
    host = snapshot.host
    found[series("host_memory_total_bytes")] = _number(told.get("memory_total_bytes")) or host.memory_total_bytes
    available = told.get("memory_available_bytes")
    found[series("host_memory_available_bytes")] = host.memory_available_bytes if available is None else available
    found[series("host_load1")] = host.load1
    if host.cpu_busy_ratio is not None:
        found[series("host_cpu_busy_ratio")] = host.cpu_busy_ratio
    for resource, ratio in host.pressure.items():
        found[series("host_pressure_ratio", resource)] = ratio
    if host.disk_free_bytes is not None:
        found[series("host_disk_free_bytes")] = host.disk_free_bytes


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else 0.0


def _whole(value: Any) -> int:
    return int(_number(value))
