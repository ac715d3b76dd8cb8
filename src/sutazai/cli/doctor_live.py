"""Why it exists: restart loops, unbalanced cores and stray processes show on a running host only, never on paper.

The facts come from ``sutazaid`` and ``control.outside``; each judgement here is a pure function with its threshold
beside it, so that nobody has to guess why something was or was not reported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from sutazai.cli import fleets
from sutazai.cli.doctor import Finding
from sutazai.client import SupervisorClient
from sutazai.errors import SutazaiError
from sutazai.units import MIB, format_bytes, format_duration_ms

#: A process that was restarted so often, on average at least every so many minutes, is in a loop, also a slow one that
#: raises no ``CrashLoop``.
RESTARTS_MIN = 3
RESTART_GAP_MS_MAX = 10 * 60_000
#: A core is full above, and idle below; cores are unbalanced when a quarter of them (at least one) is each, and work on
#: the full ones may not move.
BUSY_MIN, IDLE_MAX = 0.9, 0.25
PINNED_CPU_CORES_MIN = 0.25
#: So many processes of one name, outside of every fleet, that together take so much, are strays (the blueprint's were
#: six of one program with 2.4 GB).
STRAYS_MIN = 3
STRAY_BYTES_MIN, STRAY_MEMORY_SHARE_MIN = 512 * MIB, 0.02
STRAY_CPU_CORES_MIN = 1.0
#: One name that takes a quarter of the memory or half of the cores is named however few processes it has.
HOG_MEMORY_SHARE_MIN, HOG_CPU_SHARE_MIN = 0.25, 0.5
PIDS_SHOWN_MAX = 6
PORTS_SHOWN_MAX = 10
LOOK_S_MAX = 60


def findings() -> list[Finding]:
    """Look at this host and its running fleets for a second, and judge."""
    names = fleets.running()
    found: list[Finding] = []
    ports: set[int] = set()
    for name in names:
        try:
            with SupervisorClient(name) as supervisor:
                status = supervisor.status()
        except SutazaiError as error:
            found.append(Finding("restarts", "warning", f"{name}: {str(error).splitlines()[0]}", "try again"))
            continue
        found += restart_loops(name, status, time.time_ns() // 1_000_000)
        ports |= _ports_of(status)
    command = [sys.executable, "-m", "sutazai.control.outside"]
    command += [word for name in names for word in ("--fleet", name)]
    command += [word for port in sorted(ports) for word in ("--port", str(port))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOK_S_MAX)
    if done.returncode != 0:
        text = f"could not look at the processes: {done.stderr.strip()[-200:]}"
        return [*found, Finding("processes", "warning", text, "try again as root")]
    facts: dict[str, Any] = json.loads(done.stdout)
    return [*found, *unbalanced_cores(facts), *stray_processes(facts), *stray_listeners(facts)]


def _ports_of(status: dict[str, Any]) -> set[int]:
    """All ports of a fleet, the planned ones, too."""
    ports = {int(listen["port"]) for process in status["processes"] for listen in process.get("listen", ())}
    return (ports | {int(port) for entry in status.get("planned", ()) for port in entry["ports"]}) - {0}


def restart_loops(fleet: str, status: dict[str, Any], now_ms: int) -> list[Finding]:
    """Name processes that start again and again.

    An error: the fleet's own ``CrashLoop`` (its policy's count within its window). A warning: ``RESTARTS_MIN`` or more
    restarts, on average at least one every ``RESTART_GAP_MS_MAX`` since the fleet came up.
    """
    found = []
    looping = {entry["subject"]: entry for entry in status.get("conditions", ()) if entry["name"] == "CrashLoop"}
    up_ms = max(1, now_ms - int(status.get("since_wall_ms") or now_ms))
    for process in status["processes"]:
        name, count = process["name"], int(process["restarts"])
        hint = f"sutazai logs {name} --fleet {fleet}"
        last = f"; last: {process['last_exit']}" if process.get("last_exit") else ""
        if name in looping:
            text = f"{fleet}: {name} is in a restart loop: {looping[name]['text']}"
            found.append(Finding("restarts", "error", text, hint))
        elif count >= RESTARTS_MIN and up_ms / count <= RESTART_GAP_MS_MAX:
            text = f"{fleet}: {name} was restarted {count} times in {format_duration_ms(up_ms)}{last}"
            found.append(Finding("restarts", "warning", text, hint))
    return found or [Finding("restarts", "ok", f"{fleet}: nothing restarts again and again")]


def unbalanced_cores(facts: dict[str, Any]) -> list[Finding]:
    """Tell whether some cores are full of work that may not move to idle ones.

    One busy thread fills one core, and that is no fault: only work that is bound to busy cores counts.
    """
    usable = set(facts["usable"])
    busy = {int(core): ratio for core, ratio in facts["cores"].items() if int(core) in usable}
    full = {core for core, ratio in busy.items() if ratio >= BUSY_MIN}
    idle = {core for core, ratio in busy.items() if ratio <= IDLE_MAX}
    least = max(1, len(busy) // 4)
    shown = f"{len(full)} of {len(busy)} full, {len(idle)} idle, over {facts['window_ms']} ms"
    if len(busy) > 1 and len(full) >= least and len(idle) >= least:
        pinned = [
            process
            for process in facts["processes"]
            if process["cpu_cores"] >= PINNED_CPU_CORES_MIN and not set(process["cores"]) - full
        ]
        if pinned:
            names = ", ".join(f"{one['label']} (pid {one['pid']}, cores {_cores(one['cores'])})" for one in pinned[:3])
            text = f"unbalanced: {shown}; bound to the full ones: {names}"
            fix = f"widen its cpu set, or: taskset -pc {_cores(sorted(usable))} {pinned[0]['pid']}"
            return [Finding("balance", "warning", text, fix)]
    return [Finding("balance", "ok", shown)]


def stray_processes(facts: dict[str, Any]) -> list[Finding]:
    """Name programs outside of every fleet that take much: many of one name, or few that take a large share."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for process in facts["processes"]:
        if not process["fleet"]:
            groups.setdefault(process["label"], []).append(process)
    total, cores = facts["memory_total_bytes"] or 1, len(facts["usable"]) or 1
    found = []
    for name, members in groups.items():
        memory = sum(member["memory_bytes"] for member in members)
        cpu = sum(member["cpu_cores"] for member in members)
        many = len(members) >= STRAYS_MIN and (
            memory >= max(STRAY_BYTES_MIN, STRAY_MEMORY_SHARE_MIN * total) or cpu >= STRAY_CPU_CORES_MIN
        )
        if many or memory >= HOG_MEMORY_SHARE_MIN * total or cpu >= max(HOG_CPU_SHARE_MIN * cores, STRAY_CPU_CORES_MIN):
            pids = " ".join(str(member["pid"]) for member in members[:PIDS_SHOWN_MAX])
            count = f"{len(members)} processes of {name}" if len(members) > 1 else name
            text = f"outside of every fleet: {count} with {format_bytes(memory)} and {cpu:.1f} cores (pid {pids})"
            fix = "end what is not needed; as a service of a fleet it would have a limit"
            found.append(Finding("strays", "warning", text, fix))
    return found or [Finding("strays", "ok", f"nothing large of {len(facts['processes'])} processes is outside")]


def stray_listeners(facts: dict[str, Any]) -> list[Finding]:
    """Name who listens on a port of the registry without being of a fleet that we see."""
    found = [
        Finding(
            "strays",
            "warning",
            f"port {entry['port']} of the registry is held by {entry['holder']}, which is of no fleet",
            "stop it, or give the fleet another port_offset",
        )
        for entry in facts["listeners"]
        if not entry["fleet"]
    ]
    if len(found) > PORTS_SHOWN_MAX:
        ports = ", ".join(str(entry["port"]) for entry in facts["listeners"] if not entry["fleet"])
        text = f"{len(found)} ports of the registry are held by processes of no fleet: {ports[:400]}"
        return [Finding("strays", "warning", text, "does a fleet of another user run here?")]
    return found


def _cores(cores: list[int]) -> str:
    """Write cores as the kernel does: ``0-3,8``."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
