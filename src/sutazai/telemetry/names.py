"""Why it exists: a metric's name, type, unit and labels are written once, so that no reader has to guess them.

Names follow Prometheus' conventions (base units, ``_total`` for counters) and the blueprint's ``ai_`` names.
``sampled`` ones go into control's ring once a second; the others are only exposed by the process that keeps them.

Standard library only: the supervisor imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sutazai.errors import InternalError


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: in Prometheus' form.
        type: ``counter`` (only grows; starts anew with its process), ``gauge``, ``histogram``.
        unit: ``bytes``, ``seconds``, ``ratio`` (0 to 1) or ``count``.
        labels: names of its labels, in order.
        help: one sentence.
        sampled: whether the ring keeps it.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    unit: Literal["bytes", "seconds", "ratio", "count"]
    labels: tuple[str, ...]
    help: str
    sampled: bool = True


_P = ("process",)
_A = ("agent",)
_POOL = ("pool",)

_TABLE = (
    # Processes, from sutazaid's snapshot
    Metric("process_memory_bytes", "gauge", "bytes", _P, "Memory charged to the process's control group."),
    Metric("process_memory_limit_bytes", "gauge", "bytes", _P, "Hard memory limit of the group; 0 is none."),
    Metric("process_memory_peak_bytes", "gauge", "bytes", _P, "Highest memory use of the group."),
    Metric("process_cpu_seconds_total", "counter", "seconds", _P, "CPU time used by the group."),
    Metric("process_pids", "gauge", "count", _P, "Processes and threads in the group."),
    Metric("process_restarts_total", "counter", "count", _P, "How often sutazaid started it again."),
    Metric("process_oom_kills_total", "counter", "count", _P, "Kills by the kernel at the memory limit."),
    Metric("process_up", "gauge", "count", _P, "1 while it runs, else 0."),
    Metric("process_ready", "gauge", "count", _P, "1 while it counts as ready, else 0."),
    Metric("probe_success", "gauge", "count", _P, "1 when the last liveness check passed, else 0."),
    Metric("probe_duration_seconds", "gauge", "seconds", _P, "How long the last liveness check took."),
    # Agents, summed over their instances
    Metric("instances", "gauge", "count", _A, "Instances in memory now."),
    Metric("agent_memory_bytes", "gauge", "bytes", _A, "Memory charged to all its instances."),
    Metric("agent_memory_limit_bytes", "gauge", "bytes", _A, "Memory limit of one instance."),
    Metric("agent_memory_peak_bytes", "gauge", "bytes", _A, "Highest memory use of one living instance."),
    Metric("agent_cpu_seconds_total", "counter", "seconds", _A, "CPU time of its instances, ended ones among them."),
    Metric("agent_oom_kills_total", "counter", "count", _A, "Kills of its instances at the memory limit."),
    Metric("agent_wakes_total", "counter", "count", _A, "Instances started."),
    # Pools
    Metric("pool_used_bytes", "gauge", "bytes", _POOL, "Memory in use in the pool."),
    Metric("pool_reserved_bytes", "gauge", "bytes", _POOL, "Memory reserved by tickets."),
    Metric("pool_size_bytes", "gauge", "bytes", _POOL, "Budget of the pool."),
    Metric("pool_instances", "gauge", "count", _POOL, "Instances in the pool."),
    Metric("pool_waiting", "gauge", "count", _POOL, "Wakes that wait for room."),
    # The host
    Metric("host_memory_total_bytes", "gauge", "bytes", (), "Memory of the machine."),
    Metric("host_memory_available_bytes", "gauge", "bytes", (), "MemAvailable of the kernel."),
    Metric("host_cpu_busy_ratio", "gauge", "ratio", (), "Share of all cores that was busy in the last second."),
    Metric("host_load1", "gauge", "count", (), "Load average over one minute."),
    Metric("host_pressure_ratio", "gauge", "ratio", ("resource",), "PSI: share of 10 s in which something waited."),
    Metric("host_disk_free_bytes", "gauge", "bytes", (), "Free space of the file system with the fleet's state."),
    # Work, from the broker
    Metric("queue_tasks", "gauge", "count", ("agent", "state"), "Open tasks: queued, leased, waiting; dead letters."),
    Metric("tasks_total", "counter", "count", ("outcome",), "Tasks by what became of them since the broker started."),
    Metric("task_latency_seconds", "gauge", "seconds", ("stage", "quantile"), "Time of a step at the broker."),
    Metric("breaker_state", "gauge", "count", _A, "Of an agent's circuit breaker: 0 closed, 1 half-open, 2 open."),
    Metric("breaker_opened_total", "counter", "count", _A, "How often it opened since the broker started."),
    Metric("breaker_refused_total", "counter", "count", _A, "Tasks and calls that it refused, or gave a fallback."),
    Metric("retry_budget_tokens", "gauge", "count", _A, "Retries that the agent may have at once; below 0 they wait."),
    Metric("retries_delayed_total", "counter", "count", _A, "Retries that waited for their budget."),
    Metric("store_bytes", "gauge", "bytes", ("part",), "Size of the broker's database and of its log."),
    Metric("store_up", "gauge", "count", (), "1 while the broker reaches the database of its store, else 0."),
    Metric("store_commit_seconds", "gauge", "seconds", ("quantile",), "Time of a group commit with its fsync."),
    Metric("dispatch_up", "gauge", "count", ("driver",), "1 while the driver of dispatch carries signals, else 0."),
    Metric("dispatch_signals_total", "counter", "count", ("kind",), "Signals, and looks without, by their fate."),
    Metric("cache_up", "gauge", "count", ("driver",), "1 while the cache of agents answers, else 0."),
    Metric("cache_requests_total", "counter", "count", ("outcome",), "Questions of agents to the cache, by answer."),
    # Conditions and control itself
    Metric("conditions_active", "gauge", "count", ("severity",), "Active conditions."),
    Metric("control_sample_seconds", "gauge", "seconds", (), "How long the last sample took."),
    Metric("control_source_up", "gauge", "count", ("source",), "1 when the last sample reached the source."),
    Metric("control_ring_series", "gauge", "count", (), "Series in the metric ring.", sampled=False),
    Metric("control_ring_dropped_total", "counter", "count", (), "Values that found no column.", sampled=False),
    # The language model server's own page
    Metric("ai_inference_duration_seconds", "histogram", "seconds", ("model",), "Time of one request.", sampled=False),
    Metric("ai_model_memory_bytes", "gauge", "bytes", ("model",), "Memory of a loaded model."),
    Metric("ai_model_up", "gauge", "count", ("model",), "1 while the model can answer, 0 while its server is away."),
    Metric("ai_tokens_processed_total", "counter", "count", ("model", "kind"), "Tokens: prompt, generated."),
    Metric("ai_errors_total", "counter", "count", ("model", "code"), "Requests that failed."),
    Metric("ai_queue_requests", "gauge", "count", ("model",), "Requests that wait for a slot."),
    # The gateway's own page
    Metric("http_requests_total", "counter", "count", ("door", "status"), "Requests answered.", sampled=False),
    Metric("http_request_duration_seconds", "histogram", "seconds", ("door",), "Time to the answer.", sampled=False),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
if len(METRICS) != len(_TABLE):
    raise InternalError("two metrics have the same name")


def metric(name: str) -> Metric:
    """Find a metric.

    Raises:
        InternalError: there is no such metric; add it to ``telemetry/names.py``.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise InternalError(f"there is no metric {name!r}: add it to telemetry/names.py") from None


def series_name(name: str, labels: dict[str, str]) -> str:
    """Write a series as people cite it: ``process_memory_bytes{process="leaky-shop"}``."""
    if not labels:
        return name
    inside = ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())
    return f"{name}{{{inside}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
