"""Why it exists: the next ``sutazaid`` must recognise what this one started, so that running work is not touched.

``<state>/adopt.json`` holds what no kernel file tells: which process of the plan a pid is, its counters, what was
alarming. It is written after each change, by rename. It is a hint, never the truth: a pid counts only when its start
time and its cgroup agree, and a zombie counts as dead (``adopt``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sutazai.supervisor.journal import say

FACTS_VERSION = 1


@dataclass(slots=True)
class ProcessFacts:
    """What is remembered of one process.

    Attributes:
        pid: 0 when it was not running.
        start_ticks: with the pid, names it for ever.
        cgroup: its group.
        ticket: its admission.
        started_wall_ms: for people.
        restarts: since the fleet came up.
        oom_kills: kills at its memory limit in groups that are gone, since the fleet came up.
        peak_bytes: most memory it held in those groups.
        failures_wall_ms: its latest unexpected ends, for the crash-loop window.
        ready: whether it had become ready.
        last_exit: how it ended before.
        spec: digest of the plan's entry that it was started from.
        uid: it runs as.
        listen: names of the sockets it was handed.
    """

    pid: int = 0
    start_ticks: int = 0
    cgroup: str = ""
    ticket: str = ""
    started_wall_ms: int = 0
    restarts: int = 0
    oom_kills: int = 0
    peak_bytes: int = 0
    failures_wall_ms: list[int] = field(default_factory=list)
    ready: bool = False
    last_exit: str = ""
    spec: str = ""
    uid: int = -1
    listen: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Facts:
    """The file's content.

    Attributes:
        boot_id: of the kernel; after a reboot no pid means anything.
        since_wall_ms: when the fleet came up.
        processes: by name.
        conditions: as ``ConditionSet.to_json`` gives them.
    """

    boot_id: str = ""
    since_wall_ms: int = 0
    processes: dict[str, ProcessFacts] = field(default_factory=dict)
    conditions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Facts:
        """Read the file; an unreadable one, or one of another boot, counts as empty."""
        boot = boot_id()
        try:
            data = json.loads(path.read_text())
            known = {item.name for item in fields(ProcessFacts)}
            processes = {
                str(name): ProcessFacts(**{key: value for key, value in entry.items() if key in known})
                for name, entry in data["processes"].items()
            }
            if data["version"] != FACTS_VERSION or data["boot_id"] != boot:
                return cls(boot_id=boot)
            return cls(boot, int(data["since_wall_ms"]), processes, list(data["conditions"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(boot_id=boot)

    def save(self, path: Path) -> None:
        """Replace the file; a full disk is said and survived."""
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps({"version": FACTS_VERSION, **asdict(self)}))
            temporary.replace(path)
        except OSError as error:
            say(f"cannot remember what runs: {error.strerror}")


def boot_id() -> str:
    """Identifier of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class Wish:
    """What the user asked for last: survives every process, so that a stop is never half-done."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Literal["up", "down"]:
        """Read it; ``up`` where nothing is written."""
        try:
            return "down" if json.loads(self._path.read_text()).get("wanted") == "down" else "up"
        except (OSError, ValueError, AttributeError):
            return "up"

    def write(self, wanted: Literal["up", "down"]) -> None:
        """Write it; a full disk is said and survived."""
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps({"wanted": wanted}))
            temporary.replace(self._path)
        except OSError as error:
            say(f"cannot write down the wish {wanted!r}: {error.strerror}")
