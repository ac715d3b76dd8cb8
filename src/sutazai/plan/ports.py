"""Why it exists: a port is wanted by one process only, and not by somebody else on this machine.

The planner gives a port to agents without one, adds the offset to all, and compares with what listens on the host and
with the range from which the kernel takes ports for outgoing connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.plan.model import Finding, PortRow
from sutazai.plan.platform import PORT_LLM, PROCESSES
from sutazai.spec.budget import OWN_RANGE
from sutazai.spec.places import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sutazai.plan.facts import HostFacts
    from sutazai.spec import Agent, Manifest, Place

PORT_MAX = 65535
SERVICE_RANGES = ("infrastructure", "monitoring", "reserved")
SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port before the offset."""

    number: int
    owner: str
    name: str
    held_by: str
    place: Place = NOWHERE
    service: str = ""
    planned: bool = False


def wanted_ports(manifest: Manifest, workers: Sequence[tuple[str, int, bool]]) -> tuple[list[Wanted], dict[str, int]]:
    """List all ports of a fleet, before the offset.

    Args:
        manifest: the fleet.
        workers: names of workers with their ports, and whether they are only planned.

    Returns:
        The ports, and the port of each agent (0 when none was left).
    """
    names = {(entry.by, port.number): entry.name for entry in manifest.provided.values() for port in entry.ports}
    ports = [
        Wanted(number, process.name, name, process.name, service=names.get((process.name, number), ""))
        for process in PROCESSES
        for name, number in process.ports.items()
    ]
    if manifest.llm:
        ports.append(Wanted(PORT_LLM, "llm", "llm", "llm", manifest.llm.place, names.get(("llm", PORT_LLM), "")))
    ports += [
        Wanted(number, name, f"worker:{name}", name if planned else "gateway", planned=planned)
        for name, number, planned in workers
    ]
    for service in manifest.services.values():
        ports += [
            Wanted(port.number, service.name, port.name, service.name, port.place, planned=service.planned)
            for port in service.ports
        ]
    given = [agent for agent in manifest.agents.values() if agent.port]
    ports += [_of_agent(agent, agent.port) for agent in given]
    taken = {wanted.number for wanted in ports}
    agent_ports = {agent.name: agent.port for agent in given}
    free = _free(manifest, taken)
    for agent in manifest.agents.values():
        if not agent.port:
            number = next(free, 0)
            agent_ports[agent.name] = number
            if number:
                ports.append(_of_agent(agent, number))
    return ports, agent_ports


def _of_agent(agent: Agent, number: int) -> Wanted:
    """Make an agent's port; the gateway answers on it also when the agent is only planned, and says so."""
    return Wanted(number, agent.name, f"agent:{agent.name}", "gateway", agent.place, planned=agent.planned)


def _free(manifest: Manifest, taken: set[int]) -> Iterator[int]:
    """Walk the free ports of the agents' range, those behind the workers' first: the others have built-in owners."""
    agents = manifest.port_ranges["agents"]
    reserved: set[int] = set()
    behind = agents.first
    for pool in manifest.runtime_pools.values():
        reserved.update(range(pool.port_first, pool.port_last + 1))
        if pool.port_last in agents:
            behind = max(behind, pool.port_last + 1)
    order = [*range(behind, agents.last + 1), *range(agents.first, behind)]
    return (number for number in order if number not in taken and number not in reserved)


def port_rows(wanted: Sequence[Wanted], offset: int) -> list[PortRow]:
    """Add the offset and sort."""
    rows = [
        PortRow(entry.number + offset, entry.owner, entry.name, entry.held_by, entry.service, entry.planned)
        for entry in wanted
    ]
    return sorted(rows, key=lambda row: row.number)


def port_findings(manifest: Manifest, facts: HostFacts, wanted: Sequence[Wanted]) -> list[Finding]:
    """Say which ports cannot be had."""
    found: list[Finding] = []
    owners: dict[int, Wanted] = {}
    for entry in sorted(wanted, key=lambda entry: entry.place.line):
        first = owners.setdefault(entry.number, entry)
        if first is not entry:
            found.append(
                Finding(
                    "error",
                    "port-twice",
                    f"port {entry.number} of {entry.owner} belongs to {first.owner}{_called(first)}",
                    f"give {entry.owner} another port{_first_place(first)}",
                    str(entry.place),
                )
            )
    offset = manifest.port_offset
    found += _outside_ranges(manifest, wanted)
    found += _not_provided(manifest)
    found += _unassigned(manifest, wanted)
    found += _beyond(manifest, [entry for entry in owners.values() if entry.number + offset > PORT_MAX])
    low, high = facts.ephemeral
    inside = [entry for entry in owners.values() if low <= entry.number + offset <= min(high, PORT_MAX)]
    found += _ephemeral(manifest, facts, inside)
    found += _taken(facts, [entry for entry in owners.values() if entry.number + offset in facts.listening], offset)
    return found


def _called(entry: Wanted) -> str:
    return "" if entry.name in {"main", f"agent:{entry.owner}", entry.owner} else f" ({entry.name})"


def _first_place(entry: Wanted) -> str:
    return f"; {entry.owner} has it in line {entry.place.line}" if entry.place.line else ""


def _outside_ranges(manifest: Manifest, wanted: Sequence[Wanted]) -> Iterable[Finding]:
    """Compare with the manifest's port registry; our own processes and their workers are part of it."""
    allowed: tuple[str, ...]
    for entry in wanted:
        if entry.owner in manifest.services:
            kind, allowed = "a service", SERVICE_RANGES
        elif entry.owner in manifest.agents:
            kind, allowed = "an agent", ("agents",)
        else:
            continue
        ranges = [manifest.port_ranges[name] for name in allowed]
        if kind == "a service":
            ranges += [one for one in manifest.port_ranges.values() if one.name == OWN_RANGE]
        if any(entry.number in one for one in ranges):
            continue
        text = ", ".join(f"{one.first}-{one.last} ({one.name})" for one in ranges)
        yield Finding(
            "error",
            "port-outside-range",
            f"port {entry.number} of {entry.owner} is outside the range of {kind}",
            f"use {text}" + (f", or add it to port_ranges.{OWN_RANGE}" if kind == "a service" else ""),
            str(entry.place),
        )


def _not_provided(manifest: Manifest) -> Iterable[Finding]:
    """Find services of the manifest that are said to be one of our processes, at a port that it does not have."""
    own = {process.name: set(process.ports.values()) for process in PROCESSES} | {"llm": {PORT_LLM}}
    for entry in manifest.provided.values():
        have = own[entry.by] if entry.by != "llm" or manifest.llm else set()
        for port in entry.ports:
            if port.number not in have:
                listed = ", ".join(str(number) for number in sorted(have)) or "none"
                yield Finding(
                    "error",
                    "port-not-provided",
                    f"{entry.name} is said to be our own {entry.by} on port {port.number}; it has: {listed}",
                    "write the right port, or a command of its own instead of by",
                    str(port.place),
                )


def _unassigned(manifest: Manifest, wanted: Sequence[Wanted]) -> Iterable[Finding]:
    have = {entry.owner for entry in wanted}
    without: list[Agent] = [agent for agent in manifest.agents.values() if agent.name not in have]
    if without:
        agents = manifest.port_ranges["agents"]
        yield Finding(
            "error",
            "no-port-left",
            f"{agents.first}-{agents.last} is full: no port for {_names(without[0].name, len(without))}",
            "widen port_ranges.agents",
            str(without[0].place),
        )


def _beyond(manifest: Manifest, entries: Sequence[Wanted]) -> Iterable[Finding]:
    if entries:
        top = max(entry.number for entry in entries)
        yield Finding(
            "error",
            "port-too-high",
            f"port_offset {manifest.port_offset} moves {len(entries)} ports beyond {PORT_MAX}, {top} among them",
            f"write a port_offset of at most {max(0, PORT_MAX - top)}",
            str(manifest.places.get("port_offset", "")),
        )


def _ephemeral(manifest: Manifest, facts: HostFacts, entries: Sequence[Wanted]) -> Iterable[Finding]:
    if not entries:
        return
    low, high = facts.ephemeral
    first = min(entries, key=lambda entry: entry.number)
    number = first.number + manifest.port_offset
    more = f" and {len(entries) - 1} more lie" if len(entries) > 1 else " lies"
    if manifest.port_offset:
        top = max(entry.number for entry in entries)
        hint = f"write a port_offset of at most {max(0, low - 1 - top)}"
        where = str(manifest.places.get("port_offset", ""))
    else:
        hint, where = "use a lower port, or move net.ipv4.ip_local_port_range", str(first.place)
    yield Finding(
        "error",
        "port-ephemeral",
        f"port {number} of {first.owner}{more} in {low}-{high}, the kernel's range for outgoing connections",
        hint,
        where,
    )


def _taken(facts: HostFacts, entries: Sequence[Wanted], offset: int) -> Iterable[Finding]:
    for entry in entries[:SHOWN_MAX]:
        number = entry.number + offset
        later = entry.planned and entry.held_by != "gateway"  # nobody of this fleet listens there yet
        yield Finding(
            "warning" if later else "error",
            "port-taken",
            f"port {number} of {entry.owner} is held by {facts.listening[number]}",
            "stop it, or give this fleet another port_offset",
            str(entry.place),
        )
    if len(entries) > SHOWN_MAX:
        names = ", ".join(str(entry.number + offset) for entry in entries[SHOWN_MAX:][:20])
        yield Finding(
            "error",
            "port-taken",
            f"{len(entries) - SHOWN_MAX} more ports are taken: {names}",
            "does another fleet run with this port_offset?",
        )


def _names(first: str, count: int) -> str:
    return first if count == 1 else f"{first} and {count - 1} more"
