"""Why it exists: the planner is pure, so somebody has to look at this host for it: memory, cores, ports, cgroups.

Run as ``python -m sutazai.control.facts [--fleet NAME]`` it prints the facts as JSON. What the named fleet itself uses
is no obstacle to it: its ports count as free and its memory as available, so that a running fleet can be planned anew.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from sutazai.client import SupervisorClient
from sutazai.errors import HostError, SutazaiError
from sutazai.host import cpus, facts, ports, procfs
from sutazai.host.cgroup import detect_groups
from sutazai.paths import FleetPaths
from sutazai.plan import HostFacts
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

STATUS_WAIT_S = 5.0
READINGS_MAX = 3
GUARD_NAME = "sutazaid"
GUARD_FILE = "guard.pid"
#: Use by others is rounded up to this, so that planning twice in a row mostly gives the same plan.
USED_STEP_BYTES = 64 * MIB
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED


def gather(fleet: str) -> HostFacts:
    """Look at this host on behalf of a fleet; costs some milliseconds for each process that listens."""
    paths = FleetPaths.of(fleet)
    own = own_pids(fleet, paths)
    groups = detect_groups(fleet, paths.state)
    quota = cpus.quota_cores()
    total = facts.memory_total_bytes()
    used = max(0, total - facts.memory_available_bytes() - _memory_of(own))
    used = min(total, -(-used // USED_STEP_BYTES) * USED_STEP_BYTES)
    return HostFacts(
        memory_total_bytes=total,
        memory_used_outside_bytes=used,
        cores=tuple(sorted(cpus.affinity())),
        cpu_quota_cores=quota or 0.0,
        ephemeral=ports.ephemeral_range(),
        listening={port: str(holder) for port, holder in listening().items() if holder.pid not in own},
        cgroup=groups.version,
        unenforced=tuple(f"{miss.limit}: {miss.why}" for miss in groups.missing()) if groups.version != "none" else (),
    )


def listening() -> dict[int, ports.Holder]:
    """List who listens; again when a holder was not seen, because a busy process changes while it is looked at."""
    found: dict[int, ports.Holder] = {}
    for _ in range(READINGS_MAX):
        for port, holder in ports.listening().items():
            if holder.pid or port not in found:
                found[port] = holder
        if all(holder.pid for holder in found.values()):
            break
    return found


def own_pids(fleet: str, paths: FleetPaths) -> set[int]:
    """Find the processes of a running fleet: ``sutazaid``, its guard, what it tells of, and all their children."""
    root = _peer(paths.supervisor_socket)
    if not root:
        return set()
    # The kernel names who called listen(): after a restart of sutazaid that is a process which is no more.
    found = {root} | _guard(paths.run / GUARD_FILE)
    guard = procfs.parent(root)
    if guard and procfs.name(guard).startswith(GUARD_NAME):
        found.add(guard)  # it keeps the listening sockets open while sutazaid is restarted
    try:
        with SupervisorClient(fleet, timeout_s=STATUS_WAIT_S) as supervisor:
            status = supervisor.status()
    except SutazaiError:
        status = {}  # it is starting or stopping: its own children are found all the same
    entries: list[dict[str, Any]] = [*status.get("processes", []), *status.get("instances", [])]
    found |= {int(entry["pid"]) for entry in entries if entry.get("pid")}
    return found | procfs.descendants(found)


def _guard(path: Path) -> set[int]:
    """Pid of the living guard that a file names, empty when there is none."""
    try:
        pid, start_ticks = (int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        return set()
    return {pid} if procfs.is_alive(procfs.Identity(pid, start_ticks)) else set()


def _peer(path: Path) -> int:
    """Pid of the process that listens on a unix socket, 0 when nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(STATUS_WAIT_S)
        try:
            probe.connect(str(path))
            data = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0
    return int(_CREDENTIALS.unpack(data)[0])


def _memory_of(pids: set[int]) -> int:
    """Memory that would come back if these processes ended; mapped files count as available anyway."""
    readings = [procfs.memory(pid) for pid in pids if pid != os.getpid()]
    return sum(reading.anon_bytes for reading in readings if reading is not None)


def main(argv: list[str] | None = None) -> int:
    """Print the facts of this host."""
    parser = argparse.ArgumentParser(prog="sutazai.control.facts", description="Print facts of this host as JSON.")
    parser.add_argument("--fleet", default="none", help="the fleet whose own ports and memory count as free")
    options = parser.parse_args(argv)
    try:
        found = gather(options.fleet)
    except HostError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found.to_json()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
