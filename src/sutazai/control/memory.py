"""Why it exists: who uses the memory has one honest answer, the fair share of each page, and only root can read it."""

from __future__ import annotations

from typing import Any

from sutazai.host import procfs


def owners(status: dict[str, Any], supervisor_pid: int, at_wall_ms: int) -> dict[str, Any]:
    """Read the memory of every process of the fleet; up to a millisecond each.

    A process that ``sutazaid`` does not name belongs to its nearest parent that is named.

    Args:
        status: ``sutazaid``'s answer: names of the processes.
        supervisor_pid: of ``sutazaid``, 0 when unknown.
        at_wall_ms: now.
    """
    named = _named(status, supervisor_pid)
    everyone = set(named) | procfs.descendants(set(named))
    found = []
    for pid in everyone:
        memory = procfs.memory(pid)
        if memory is None:
            continue
        owner = named.get(pid) or _of_parent(pid, named)
        found.append(
            {
                **owner,
                "pid": pid,
                "pss_bytes": memory.pss_bytes,
                "rss_bytes": memory.rss_bytes,
                "private_bytes": memory.private_bytes,
                "shared_bytes": max(0, memory.pss_bytes - memory.private_bytes),
                "anon_bytes": memory.anon_bytes,
                "file_bytes": memory.file_bytes,
                "source": f"memory:{owner['name']}/{pid}@{at_wall_ms}",
            }
        )
    found.sort(key=lambda entry: -entry["pss_bytes"])
    totals = {key: sum(entry[key] for entry in found) for key in ("pss_bytes", "private_bytes", "shared_bytes")}
    return {"at_wall_ms": at_wall_ms, "owners": found, "totals": totals}


def _named(status: dict[str, Any], supervisor_pid: int) -> dict[int, dict[str, Any]]:
    named: dict[int, dict[str, Any]] = {}
    if supervisor_pid:
        named[supervisor_pid] = _owner("sutazaid", "platform", {})
        guard = procfs.parent(supervisor_pid)
        if guard > 1 and any("sutazai" in part for part in procfs.cmdline(guard)):
            named[guard] = _owner("guard", "platform", {})
    for entry in status.get("processes") or ():
        if pid := entry.get("pid"):
            named[int(pid)] = _owner(str(entry.get("name")), str(entry.get("kind") or ""), entry)
    for entry in status.get("instances") or ():
        if pid := entry.get("pid"):
            named[int(pid)] = _owner(str(entry.get("agent")), "instance", entry)
    for entry in status.get("spares") or ():
        named[int(entry["pid"])] = _owner(f"{entry.get('worker')} spare", "spare", entry)
    return named


def _owner(name: str, kind: str, entry: dict[str, Any]) -> dict[str, Any]:
    limit = entry.get("memory_limit_bytes") or 0
    return {"name": name, "kind": kind, "pool": str(entry.get("pool") or ""), "limit_bytes": limit}


def _of_parent(pid: int, named: dict[int, dict[str, Any]]) -> dict[str, Any]:
    above = procfs.parent(pid)
    while above > 1 and above not in named:
        above = procfs.parent(above)
    if above not in named or named[above]["name"] in {"sutazaid", "guard"}:
        return _owner(procfs.name(pid) or "unknown", "other", {})
    return named[above]
