"""Why it exists: our own processes cost memory and hold ports too, and both stand in one table.

The numbers are limits and start peaks in bytes; peaks were measured on Debian 12 with Python 3.11 and rounded up,
limits leave room for load. They are absolute: a smaller host does not make a Python interpreter smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

from sutazai.units import MIB

STAGES = ("store", "control", "llm", "workers", "services", "edge")

PORT_EDGE = 10005
PORT_RESOURCE_MANAGER = 10009
PORT_BACKEND = 10010
PORT_LLM = 10104
PORT_METRICS = 10204

WEIGHT_DEFAULT = 100
INSTANCE_PIDS_MAX = 64


@dataclass(frozen=True, slots=True)
class PlatformProcess:
    """One of our own processes.

    Attributes:
        name: fixed.
        stage: of boot.
        memory_bytes: limit.
        start_peak_bytes: what its ticket reserves.
        cpu_weight: share under contention.
        pids_max: processes and threads.
        oom_score_adj: of the kernel's choice when the whole machine is short.
        ports: name in ``SUTAZAI_LISTEN`` → port, before the offset.
    """

    name: str
    stage: str
    memory_bytes: int
    start_peak_bytes: int
    cpu_weight: int
    pids_max: int
    oom_score_adj: int
    ports: dict[str, int]


PROCESSES = (
    PlatformProcess("broker", "store", 192 * MIB, 80 * MIB, 400, 64, -800, {}),
    PlatformProcess(
        "control", "control", 192 * MIB, 96 * MIB, 100, 128, -300,
        {"resource-manager": PORT_RESOURCE_MANAGER, "backend": PORT_BACKEND, "metrics": PORT_METRICS},
    ),
    PlatformProcess("zygote", "workers", 128 * MIB, 64 * MIB, 200, 64, 0, {}),
    PlatformProcess("gateway", "edge", 192 * MIB, 96 * MIB, 300, 128, -500, {"edge": PORT_EDGE}),
)  # fmt: skip

#: ``sutazaid`` and its guard; they are started by hand or by systemd, not from the plan, but they cost memory.
SUPERVISOR_BYTES = 48 * MIB
SUPERVISOR_PEAK_BYTES = 40 * MIB

#: Family → limit and start peak of a worker that pre-loads it. ``data`` is numpy, scipy and statsmodels.
FAMILY_BYTES = {"base": (128 * MIB, 64 * MIB), "data": (384 * MIB, 224 * MIB)}
#: The same of a worker that hosts instances, without them.
HOSTING_BYTES = {"node": (128 * MIB, 80 * MIB), "go": (48 * MIB, 24 * MIB)}
WORKER_PIDS_MAX = 64
HOSTING_PIDS_MAX = 512  # threads: some for each instance
WORKER_WEIGHT = 100

LLM_WEIGHT = 50
LLM_PIDS_MAX = 256
LLM_OOM_SCORE_ADJ = 300

#: The blueprint's host, for what is to be scaled by cores.
BLUEPRINT_CORES = 12
BLUEPRINT_WORKERS = 8
#: With fewer cores than this, disjoint sets would leave a process a single core that others need: weights instead.
CPU_SETS_CORES_MIN = 4
