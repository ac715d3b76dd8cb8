"""Why it exists: all that the planner knows of a machine comes in as one value, so that any machine can be planned for.

``control.facts`` gathers it from this host; ``parse_host`` builds it from ``--host 12c,29.38GB``; tests write it down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sutazai.units import parse_bytes, parse_cores

EPHEMERAL_DEFAULT = (32768, 60999)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A machine.

    Attributes:
        memory_total_bytes: what the kernel has, or what a cgroup around us allows, the smaller.
        memory_used_outside_bytes: in use by everything that is not this fleet.
        cores: numbers of the cores that we may run on.
        cpu_quota_cores: ceiling by a cgroup around us, 0 for none.
        ephemeral: ports that the kernel gives to outgoing connections, first and last.
        listening: port → who holds it, for a person; ports held by this fleet itself are left out.
        cgroup: ``v1``, ``v2`` or ``none``: who will hold the limits.
        unenforced: limits that this host cannot hold, each with its reason.
        label: how the host is called in the plan.
    """

    memory_total_bytes: int
    memory_used_outside_bytes: int
    cores: tuple[int, ...]
    cpu_quota_cores: float = 0.0
    ephemeral: tuple[int, int] = EPHEMERAL_DEFAULT
    listening: dict[int, str] = field(default_factory=dict)
    cgroup: str = "none"
    unenforced: tuple[str, ...] = ()
    label: str = "this host"

    @property
    def usable_cores(self) -> int:
        """Whole cores that a fleet can count on, at least one."""
        have = len(self.cores)
        if self.cpu_quota_cores:
            have = min(have, int(self.cpu_quota_cores))
        return max(1, have)

    @property
    def memory_free_bytes(self) -> int:
        """What a fleet can have: the total minus the use outside."""
        return max(0, self.memory_total_bytes - self.memory_used_outside_bytes)

    def to_json(self) -> dict[str, Any]:
        """Write for another process."""
        return {**asdict(self), "listening": {str(port): holder for port, holder in self.listening.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HostFacts:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        try:
            ephemeral = data.get("ephemeral", EPHEMERAL_DEFAULT)
            return cls(
                memory_total_bytes=int(data["memory_total_bytes"]),
                memory_used_outside_bytes=int(data["memory_used_outside_bytes"]),
                cores=tuple(int(core) for core in data["cores"]),
                cpu_quota_cores=float(data.get("cpu_quota_cores", 0.0)),
                ephemeral=(int(ephemeral[0]), int(ephemeral[1])),
                listening={int(port): str(holder) for port, holder in data.get("listening", {}).items()},
                cgroup=str(data.get("cgroup", "none")),
                unenforced=tuple(str(entry) for entry in data.get("unenforced", ())),
                label=str(data.get("label", "this host")),
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            msg = f"these are no facts of a host: {error!r}"
            raise ValueError(msg) from error


def parse_host(text: str) -> HostFacts:
    """Read a machine from the command line, like ``12c,29.38GB``; nothing else runs on it and no port is taken.

    Raises:
        ValueError: the text says what to write.
    """
    cores, memory = 0, 0
    for part in (piece.strip() for piece in text.split(",")):
        try:
            if part.endswith("c"):
                cores = int(parse_cores(part))
            else:
                memory = parse_bytes(part)
        except ValueError as error:
            msg = f"--host {text}: {error}; write cores and memory, like 12c,29.38GB"
            raise ValueError(msg) from error
    if cores < 1 or memory < 1:
        msg = f"--host {text}: write whole cores and memory, like 12c,29.38GB"
        raise ValueError(msg)
    return HostFacts(memory, 0, tuple(range(cores)), cgroup="v2", label=f"the host {text}")
