"""Why it exists: two services may want one port, or one that the kernel or the fleet needs; each gets one of its own.

A port of the host is kept where it can be: whoever talks to the service today finds it there tomorrow. The choice
depends on the files alone, never on the machine, so that an import gives the same result everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.compose.report import PortRow
from sutazai.plan.facts import EPHEMERAL_DEFAULT
from sutazai.plan.platform import PORT_LLM, PROCESSES
from sutazai.spec.budget import BLUEPRINT_RANGES
from sutazai.spec.places import Mapping, Place, Scalar, Sequence
from sutazai.spec.section import Section
from sutazai.spec.service import PORT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sutazai.compose.report import Notes

PRIVILEGED_MAX = 1023
OWN_FIRST, OWN_LAST = BLUEPRINT_RANGES["infrastructure"][0], BLUEPRINT_RANGES["agents"][1]
FREE_FIRST, FREE_LAST = BLUEPRINT_RANGES["reserved"]
PORTS_PER_SERVICE_MAX = 64
_PORTS = r"[0-9]{1,6}(?:-[0-9]{1,6})?"
_SHORT = re.compile(
    rf"(?:(?P<ip>\[[0-9A-Fa-f:.]+\]|[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}|localhost):)?(?:(?P<host>{_PORTS})?:)?(?P<inside>{_PORTS})"
    r"(?:/(?P<protocol>[a-z]+))?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Published:
    """A port of a container.

    Attributes:
        inside: in the container.
        host: on the host, 0 when Docker would choose one.
        place: in the file.
    """

    inside: int
    host: int
    place: Place


@dataclass(frozen=True, slots=True)
class _Who:
    """Whose port is read, and where notes about it go."""

    section: Section
    notes: Notes
    service: str


def read_ports(section: Section, notes: Notes, service: str) -> list[Published]:
    """Read ``ports`` in its short and its long form."""
    node = section.node("ports")
    if node is None:
        return []
    if not isinstance(node, Sequence):
        section.add("ports", "here is a list meant", 'write - "8080:80"')
        return []
    found: list[Published] = []
    for item in node.items:
        if isinstance(item, Scalar):
            found += _short(item, section, notes, service)
        elif isinstance(item, Mapping):
            found += _long(item, section, notes, service)
        else:
            section.mistakes.add(f"{section.where}.ports: here is one port meant", item.place, 'write - "8080:80"')
    if len(found) > PORTS_PER_SERVICE_MAX:
        section.add("ports", f"are {len(found)}; a service may have {PORTS_PER_SERVICE_MAX}", "publish what is used")
        del found[PORTS_PER_SERVICE_MAX:]
    return found


def read_expose(section: Section) -> list[int]:
    """Read ``expose``: ports that only other services use."""
    found: list[int] = []
    for item in section.scalars("expose"):
        numbers = _range(item.text.partition("/")[0])
        if numbers is None:
            section.mistakes.add(
                f"{section.where}.expose: {item.text!r} is no port", item.place, f"a port is 1 to {PORT_MAX}"
            )
        else:
            found += numbers[:PORTS_PER_SERVICE_MAX]
    return found


def _short(item: Scalar, section: Section, notes: Notes, service: str) -> list[Published]:
    match = _SHORT.fullmatch(item.text.strip())
    inside = _range(match["inside"]) if match else None
    host = _range(match["host"]) if match and match["host"] else []
    if match is None or inside is None or host is None:
        section.mistakes.add(
            f"{section.where}.ports: {item.text!r} is no port",
            item.place,
            f'write "8080:80"; a port is 1 to {PORT_MAX}',
        )
        return []
    _address(match["ip"] or "", item.place, notes, service)
    return _pair(inside, host, (match["protocol"] or "tcp").lower(), item.place, _Who(section, notes, service))


def _long(item: Mapping, section: Section, notes: Notes, service: str) -> list[Published]:
    inner = Section(item, f"{section.where}.ports", section.mistakes)
    target, published = inner.text("target", required=True, hint="write target: 80"), inner.text("published")
    inside, host = _range(target), _range(published) if published else []
    if target and (inside is None or host is None):
        wrong = target if inside is None else published
        inner.add("target" if inside is None else "published", f"{wrong!r} is no port", f"a port is 1 to {PORT_MAX}")
    _address(inner.text("host_ip"), item.place, notes, service)
    for key in inner.written():
        if key not in {
            "target",
            "published",
            "host_ip",
            "protocol",
            "mode",
            "name",
            "app_protocol",
        } and not key.startswith("x-"):
            notes.add(service, f"ports.{key}", inner.key_place(key), f"unknown key {key!r}: ignored", warn=True)
    if inside is None or host is None:
        return []
    return _pair(inside, host, inner.text("protocol", "tcp").lower(), item.place, _Who(section, notes, service))


def _address(address: str, place: Place, notes: Notes, service: str) -> None:
    if address and address not in {"127.0.0.1", "localhost", "[::1]", "::1"}:
        text = f"bound to {address} before, to 127.0.0.1 now: what is to be seen from outside goes through a proxy"
        notes.add(service, "ports", place, text)


def _pair(inside: list[int], host: list[int], protocol: str, place: Place, who: _Who) -> list[Published]:
    if protocol != "tcp":
        who.notes.add(
            who.service, "ports", place, f"{protocol} port {inside[0]}: only TCP ports are in the plan", warn=True
        )
        return []
    if host and len(host) != len(inside):
        if len(inside) == 1:
            return [Published(inside[0], host[0], place)]  # a range to choose from: the first
        who.section.mistakes.add(
            f"{who.section.where}.ports: {len(host)} ports of the host for {len(inside)} of the container", place,
            "write two ranges of one length",
        )  # fmt: skip
        return []
    return [Published(number, host[index] if host else 0, place) for index, number in enumerate(inside)]


def _range(text: str) -> list[int] | None:
    """Read ``80`` or ``80-89``; ``None`` when that is no port."""
    first, sign, last = text.strip().partition("-")
    if not first.isdigit() or not first.isascii() or (sign and not (last.isdigit() and last.isascii())):
        return None
    low, high = int(first), int(last) if sign else int(first)
    return list(range(low, min(high, low + 1_000) + 1)) if 1 <= low <= high <= PORT_MAX else None


@dataclass
class PortDesk:
    """Gives each service its ports; who asks first, keeps first.

    Attributes:
        rows: what was given, old and new.
        kept: ports outside of the blueprint's ranges that were kept.
    """

    rows: list[PortRow] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    _taken: dict[int, str] = field(default_factory=dict)
    _free: Iterator[int] = field(default_factory=lambda: iter(range(FREE_FIRST, FREE_LAST + 1)))

    def __post_init__(self) -> None:
        """Take the platform's own ports off."""
        self._taken = {port: "the fleet" for process in PROCESSES for port in process.ports.values()}
        self._taken[PORT_LLM] = "the model server"

    def give(self, service: str, inside: int, host: int, blueprint: int = 0) -> int:
        """Give a port.

        Args:
            service: for whom, its name in the manifest.
            inside: its port in the container.
            host: the port on the host that it had, 0 when none was published.
            blueprint: the blueprint's port for it, 0 for none; used when it had none on the host.

        Returns:
            The port, 0 when all are given.
        """
        reason = self._refuse(host) if host else "it had none on the host"
        if not reason:
            number = host
            if not FREE_FIRST <= host <= FREE_LAST:
                self.kept.append(host)
        elif blueprint and blueprint not in self._taken:
            number = blueprint
        else:
            number = next((port for port in self._free if port not in self._taken), 0)
        if number:
            self._taken[number] = service
        self.rows.append(PortRow(service, inside, host, number, reason))
        return number

    def llm(self, inside: int, host: int) -> None:
        """Note the port of the model server, which is fixed."""
        self.rows.append(PortRow("llm", inside, host, PORT_LLM, "the fleet's model server"))

    def _refuse(self, port: int) -> str:
        low, high = EPHEMERAL_DEFAULT
        if port in self._taken:
            return f"{port} is taken by {self._taken[port]}"
        if port <= PRIVILEGED_MAX:
            return f"only root may listen below {PRIVILEGED_MAX + 1}"
        if OWN_FIRST <= port <= OWN_LAST:
            return f"{OWN_FIRST}-{OWN_LAST} are the fleet's own"
        if low <= port <= high:
            return f"{low}-{high} are the kernel's for outgoing connections"
        return ""
