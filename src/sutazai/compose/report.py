"""Why it exists: whoever takes a fleet over must see what became of each line: carried, changed, proposed, or left out.

Nothing of a Compose file is dropped silently: what has no place in the manifest stands here, with its place and reason.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sutazai.spec.places import Place
    from sutazai.spec.section import Section


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not in the manifest as it was in the Compose file.

    Attributes:
        service: in the Compose file; empty when it is the whole file's.
        key: as it is written there.
        where: ``file:line:column``.
        text: what became of it, and why.
        warning: whether a person has to look at it.
    """

    service: str
    key: str
    where: str
    text: str
    warning: bool = False


class Notes:
    """Collects notes; the same one at the same place once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str, str, str], Note] = {}

    def add(self, service: str, key: str, place: Place, text: str, *, warn: bool = False) -> None:
        """Note what became of a key."""
        self._notes.setdefault((service, key, str(place), text), Note(service, key, str(place), text, warn))

    def ignored(self, section: Section, keys: tuple[str, ...], reason: str, service: str = "") -> None:
        """Note those of these keys that are written."""
        for key in keys:
            if section.has(key):
                self.add(service, key, section.key_place(key), reason)

    def all(self) -> list[Note]:
        """All notes in the order in which they were found; warnings first."""
        return sorted(self._notes.values(), key=lambda note: not note.warning)


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """What became of a service.

    Attributes:
        service: its name in the Compose file.
        name: in the manifest; empty when it is not there.
        becomes: ``service``, ``agent`` (beside its service), ``llm``, ``planned`` or ``left out``.
        how: command, or the reason why it does not run.
    """

    service: str
    name: str
    becomes: str
    how: str


@dataclass(frozen=True, slots=True)
class PortRow:
    """A port, old and new.

    Attributes:
        service: in the manifest.
        inside: port in the container.
        old: port on the host, 0 when it was not published.
        new: port in the manifest, before the offset.
        reason: why it differs; empty when it does not.
    """

    service: str
    inside: int
    old: int
    new: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A memory limit.

    Attributes:
        service: in the manifest.
        memory_bytes: its limit.
        proposed: whether the Compose file had none.
        source: where the number comes from.
        runs: whether it counts: what is only planned takes no memory.
    """

    service: str
    memory_bytes: int
    proposed: bool
    source: str
    runs: bool = True


@dataclass(frozen=True, slots=True)
class LinkRow:
    """An address of another service that was rewritten, because all listen on loopback.

    Attributes:
        service: whose value it is.
        where: name of the variable, or ``command``.
        old: as it was.
        new: as it is.
    """

    service: str
    where: str
    old: str
    new: str


@dataclass
class Report:
    """All of an import.

    Attributes:
        fleet: name.
        services: what became of each.
        ports: old and new.
        limits: memory.
        links: rewritten addresses.
        prepare: service and what a person has to do before ``sutazai up``.
        notes: everything that is not carried over.
    """

    fleet: str = ""
    services: list[ServiceRow] = field(default_factory=list)
    ports: list[PortRow] = field(default_factory=list)
    limits: list[LimitRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)
    prepare: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def memory_bytes(self) -> int:
        """Limits of all that runs, together."""
        return sum(row.memory_bytes for row in self.limits if row.runs)

    def to_json(self) -> dict[str, Any]:
        """Write for another program."""
        return {
            **asdict(self),
            "prepare": [{"service": service, "run": text} for service, text in self.prepare],
            "memory_bytes": self.memory_bytes,
        }
