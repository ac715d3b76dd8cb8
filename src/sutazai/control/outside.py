"""Why it exists: a fleet that keeps its budget can still suffer from what runs beside it; somebody has to look.

``python -m sutazai.control.outside [--fleet NAME …] [--port N …]`` watches the machine for a second and prints JSON:
how busy each core was, what each process took and where it may run, and who listens on ports of interest; each with the
fleet that it belongs to. It judges nothing: ``sutazai doctor`` does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from sutazai.control.facts import listening, own_pids
from sutazai.host import cpus, procfs
from sutazai.paths import FleetPaths
from sutazai.spec.budget import BLUEPRINT_RANGES

WINDOW_S = 1.0
PROCESSES_MAX = 500
INTERPRETERS = ("python", "node", "java", "ruby", "perl", "sh", "bash", "dash")


def look(fleets: list[str], ports: set[int], *, window_s: float = WINDOW_S) -> dict[str, Any]:
    """Watch the machine.

    Args:
        fleets: names of running fleets; their processes are told apart from the others.
        ports: of interest besides the blueprint's ranges.
        window_s: over which CPU is measured.
    """
    cores, used = procfs.core_times(), _cpu_usec()
    begun_s = time.monotonic()
    owner = {pid: name for name in fleets for pid in own_pids(name, FleetPaths.of(name))}
    time.sleep(max(0.0, window_s - (time.monotonic() - begun_s)))  # the window is the measurement
    took_usec = (time.monotonic() - begun_s) * 1_000_000
    after, used_after = procfs.core_times(), _cpu_usec()
    processes = [
        _process(pid, (used_after[pid] - before) / took_usec, owner.get(pid, ""))
        for pid, before in used.items()
        if pid in used_after and pid != os.getpid()
    ]
    known = [process for process in processes if process is not None]
    known.sort(key=lambda process: (process["cpu_cores"], process["memory_bytes"]), reverse=True)
    return {
        "window_ms": round(took_usec / 1_000),
        "cores": {
            str(core): round(procfs.busy_ratio(times, after[core]), 3)
            for core, times in cores.items()
            if core >= 0 and core in after
        },
        "usable": sorted(cpus.affinity()),
        "memory_total_bytes": procfs.meminfo().total_bytes,
        "processes": known[:PROCESSES_MAX],
        "listeners": _listeners(ports, owner),
    }


def label(argv: list[str], fallback: str) -> str:
    """Name a process as a person would: its program, and for an interpreter also what it runs."""
    if not argv:
        return fallback
    program = Path(argv[0]).name or fallback
    if not program.rstrip("0123456789.").startswith(INTERPRETERS):
        return program
    rest = argv[1:]
    if "-m" in rest[:3] and len(rest) > rest.index("-m") + 1:
        return f"{program} -m {rest[rest.index('-m') + 1]}"
    script = next((word for word in rest if not word.startswith("-")), "")
    return f"{program} {Path(script).name}" if script and "\n" not in script and "-c" not in rest[:2] else program


def _cpu_usec() -> dict[int, int]:
    return {pid: procfs.cpu_usec(pid) for pid in procfs.pids()}


def _process(pid: int, cpu_cores: float, fleet: str) -> dict[str, Any] | None:
    """Describe a process; ``None`` for a kernel thread, a zombie, and one that is gone."""
    argv = procfs.cmdline(pid)
    if not argv:
        return None
    memory = procfs.memory(pid)  # another user's is not shown; then what is resident must do
    try:
        cores = sorted(os.sched_getaffinity(pid))
    except OSError:
        return None
    return {
        "pid": pid,
        "label": label(argv, procfs.name(pid)),
        "memory_bytes": memory.pss_bytes if memory else procfs.rss_bytes(pid),
        "cpu_cores": round(max(0.0, cpu_cores), 3),
        "cores": cores,
        "fleet": fleet,
    }


def _listeners(ports: set[int], owner: dict[int, str]) -> list[dict[str, Any]]:
    ranges = BLUEPRINT_RANGES.values()
    return [
        {"port": port, "holder": str(holder), "pid": holder.pid, "fleet": owner.get(holder.pid, "")}
        for port, holder in sorted(listening().items())
        if port in ports or any(first <= port <= last for first, last in ranges)
    ]


def main(argv: list[str] | None = None) -> int:
    """Look and print."""
    parser = argparse.ArgumentParser(prog="sutazai.control.outside", description="Look at what runs on this host.")
    parser.add_argument("--fleet", action="append", default=[], help="a running fleet; may be given more than once")
    parser.add_argument("--port", action="append", default=[], type=int, help="a port of interest")
    options = parser.parse_args(argv)
    sys.stdout.write(json.dumps(look(options.fleet, set(options.port))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
