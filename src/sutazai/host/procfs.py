"""Why it exists: what a process is and uses, read from ``/proc`` once and in one way. See proc(5).

A pid is reused; a pid with its start time is not. Everything here takes a pid that may be gone and says None or 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KIB = 1024
_STAT_STATE, _STAT_PARENT, _STAT_UTIME, _STAT_STIME, _STAT_START = 0, 1, 11, 12, 19  # after the command's name
_STAT_FIELDS_MIN = 20


class Identity(NamedTuple):
    """A process that cannot be mistaken for a later one.

    Attributes:
        pid: its number.
        start_ticks: when it started, clock ticks after boot.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process, bytes, from ``smaps_rollup``.

    Attributes:
        pss_bytes: its fair share: shared pages are divided by their users.
        rss_bytes: all pages it has mapped.
        private_bytes: pages that only it has.
        shared_bytes: pages that others have, too.
        anon_bytes: its share of memory without a file.
        file_bytes: its share of mapped files.
    """

    pss_bytes: int = 0
    rss_bytes: int = 0
    private_bytes: int = 0
    shared_bytes: int = 0
    anon_bytes: int = 0
    file_bytes: int = 0


def _stat(pid: int, proc: Path = PROC) -> list[str]:
    """Fields of ``stat`` behind the command's name, which may hold spaces and brackets; empty when it is gone."""
    try:
        with (proc / str(pid) / "stat").open("rb", buffering=0) as file:
            text = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return []
    fields = text[text.rfind(")") + 2 :].split()
    return fields if len(fields) >= _STAT_FIELDS_MIN else []


def identity(pid: int, proc: Path = PROC) -> Identity | None:
    """Identify a living process; None when there is none, or only its zombie."""
    fields = _stat(pid, proc)
    if not fields or fields[_STAT_STATE] in "ZX":
        return None
    return Identity(pid, int(fields[_STAT_START]))


def is_alive(who: Identity, proc: Path = PROC) -> bool:
    """Whether this very process lives; a zombie counts as dead."""
    return identity(who.pid, proc) == who


def state(pid: int, proc: Path = PROC) -> str:
    """One letter as in ps(1): ``R``, ``S``, ``D``, ``T``, ``Z`` …; empty when it is gone."""
    fields = _stat(pid, proc)
    return fields[_STAT_STATE] if fields else ""


def parent(pid: int, proc: Path = PROC) -> int:
    """Pid of the parent; 0 when it is gone."""
    fields = _stat(pid, proc)
    return int(fields[_STAT_PARENT]) if fields else 0


def cpu_usec(pid: int, proc: Path = PROC) -> int:
    """Processor time of a process, user and system, microseconds; 0 when it is gone."""
    fields = _stat(pid, proc)
    if not fields:
        return 0
    return (int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])) * 1_000_000 // TICKS_PER_S


def children(pid: int, proc: Path = PROC) -> list[int]:
    """Pids of the direct children, of all its threads."""
    found: list[int] = []
    try:
        threads = [entry.name for entry in (proc / str(pid) / "task").iterdir()]
    except OSError:
        return found
    for thread in threads:
        try:
            text = (proc / str(pid) / "task" / thread / "children").read_text()
        except OSError:
            continue
        found.extend(int(word) for word in text.split() if word.isdecimal())
    return sorted(found)


def descendants(pids: set[int], proc: Path = PROC) -> set[int]:
    """Pids of all children, and their children, without the given ones; zombies are left out."""
    found: set[int] = set()
    todo = list(pids)
    while todo:
        for child in children(todo.pop(), proc):
            if child not in found and child not in pids and state(child, proc) not in {"Z", "X", ""}:
                found.add(child)
                todo.append(child)
    return found


def pids(proc: Path = PROC) -> list[int]:
    """All processes that we can see."""
    return sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())


def cmdline(pid: int, proc: Path = PROC) -> list[str]:
    """Arguments; empty for a kernel thread, a zombie, or when it is gone."""
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0")] if raw else []


def name(pid: int, proc: Path = PROC) -> str:
    """The short name of a process (15 characters); empty when it is gone."""
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def uid(pid: int, proc: Path = PROC) -> int | None:
    """Effective uid; None when it is gone."""
    for line in _lines(proc / str(pid) / "status"):
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None


def threads(pid: int, proc: Path = PROC) -> int:
    """Number of threads; 0 when it is gone."""
    for line in _lines(proc / str(pid) / "status"):
        if line.startswith("Threads:"):
            return int(line.split()[1])
    return 0


def memory(pid: int, proc: Path = PROC) -> Memory | None:
    """Read the memory of a process; costs up to a millisecond for a large one. None when it is gone or not ours."""
    values = _kib_table(proc / str(pid) / "smaps_rollup")
    if "Pss" not in values:
        return None
    return Memory(
        pss_bytes=values["Pss"],
        rss_bytes=values.get("Rss", 0),
        private_bytes=values.get("Private_Clean", 0) + values.get("Private_Dirty", 0),
        shared_bytes=values.get("Shared_Clean", 0) + values.get("Shared_Dirty", 0),
        anon_bytes=values.get("Pss_Anon", 0) + values.get("Pss_Shmem", 0),
        file_bytes=values.get("Pss_File", 0),
    )


def rss_bytes(pid: int, proc: Path = PROC) -> int:
    """Resident memory, cheap (``statm``); 0 when it is gone."""
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class MemInfo:
    """Memory of the machine, bytes.

    Attributes:
        total_bytes: ``MemTotal``.
        available_bytes: ``MemAvailable``: what new programs can have without swapping.
        free_bytes: ``MemFree``.
        cached_bytes: ``Cached``.
        swap_total_bytes: ``SwapTotal``.
        swap_free_bytes: ``SwapFree``.
    """

    total_bytes: int = 0
    available_bytes: int = 0
    free_bytes: int = 0
    cached_bytes: int = 0
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0


def meminfo(proc: Path = PROC) -> MemInfo:
    """Read the machine's memory; all zero without ``/proc/meminfo``."""
    values = _kib_table(proc / "meminfo")
    return MemInfo(
        total_bytes=values.get("MemTotal", 0),
        available_bytes=values.get("MemAvailable", values.get("MemFree", 0)),
        free_bytes=values.get("MemFree", 0),
        cached_bytes=values.get("Cached", 0),
        swap_total_bytes=values.get("SwapTotal", 0),
        swap_free_bytes=values.get("SwapFree", 0),
    )


class CoreTimes(NamedTuple):
    """Time of one core since boot, clock ticks.

    Attributes:
        busy: working for somebody (time stolen by a hypervisor counts).
        total: all.
    """

    busy: int
    total: int


def core_times(proc: Path = PROC) -> dict[int, CoreTimes]:
    """Read how busy each core has been since boot; -1 is the sum of all."""
    found = {}
    for line in _lines(proc / "stat"):
        if not line.startswith("cpu"):
            break
        label, *words = line.split()
        ticks = [int(word) for word in words if word.isdecimal()]
        if len(ticks) < 5:  # noqa: PLR2004 user, nice, system, idle, iowait
            continue
        total = sum(ticks[:8])  # guest time is in user time already
        found[int(label[3:] or -1)] = CoreTimes(total - ticks[3] - ticks[4], total)
    return found


def busy_ratio(before: CoreTimes, after: CoreTimes) -> float:
    """Share of the time between two readings in which a core worked, 0–1."""
    total = after.total - before.total
    return max(0.0, min(1.0, (after.busy - before.busy) / total)) if total > 0 else 0.0


def load1(proc: Path = PROC) -> float:
    """Load average of the last minute; 0 when unknown."""
    try:
        return float((proc / "loadavg").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0.0


def boot_id(proc: Path = PROC) -> str:
    """Random name of this boot; start times compare only within one."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _kib_table(path: Path) -> dict[str, int]:
    """Read lines of ``Key:   123 kB`` as bytes."""
    found = {}
    for line in _lines(path):
        key, colon, rest = line.partition(":")
        words = rest.split()
        if colon and words and words[0].isdecimal():
            found[key] = int(words[0]) * _KIB
    return found
