"""Why it exists: the mistakes that only show when the parts are seen together: names, ports, pools, sets, order.

Everything here can be told from the manifest alone, so it has a place in the file. What depends on the machine is the
planner's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.spec.graph import find_cycle
from sutazai.spec.model import PLATFORM_POOL, POOL_NAMES, Agent, Manifest, Service
from sutazai.spec.section import one_of
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.spec.places import Mistakes, Place

#: Names of our own processes; services and agents cannot have them.
PLATFORM_NAMES = ("broker", "control", "gateway", "llm", "zygote")
RESERVED_NAMES = (*PLATFORM_NAMES, *POOL_NAMES, PLATFORM_POOL, "sutazaid", "guard", "recall")
#: What a service may wait for besides other services; the rest of the platform is up before any of them.
WAITABLE = ("llm", "broker", "control", "zygote")
SERVICE_RANGES = ("infrastructure", "monitoring", "reserved")
SERVICE_POOLS = tuple(name for name in POOL_NAMES if name != "reserve")


def check(manifest: Manifest, mistakes: Mistakes) -> None:
    """Note every contradiction between the parts of a manifest."""
    _names(manifest, mistakes)
    _ports(manifest, mistakes)
    _pools(manifest, mistakes)
    _limits(manifest, mistakes)
    _cpu_sets(manifest, mistakes)
    _order(manifest, mistakes)
    _needs(manifest, mistakes)
    _servers(manifest, mistakes)
    _families(manifest, mistakes)


def _names(manifest: Manifest, mistakes: Mistakes) -> None:
    workers = {f"{pool}-" for pool in manifest.runtime_pools}
    entries: list[tuple[str, Service | Agent]] = [*manifest.services.items(), *manifest.agents.items()]
    for name, entry in entries:
        prefix, _, number = name.rpartition("-")
        if name in RESERVED_NAMES or (f"{prefix}-" in workers and number.isdigit()):
            mistakes.add(f"the name {name} belongs to the platform", entry.place, f"call it my-{name}")
    for name in manifest.services.keys() & manifest.agents.keys():
        service, agent = manifest.services[name], manifest.agents[name]
        mistakes.add(
            f"{name} is a service and an agent",
            max(service.place, agent.place, key=lambda place: place.line),
            f"names are unique in a fleet; the first is in line {min(service.place.line, agent.place.line)}",
        )


def _ports(manifest: Manifest, mistakes: Mistakes) -> None:
    owners: dict[int, tuple[str, Place]] = {}
    wanted = [(agent.port, name, agent.place, False) for name, agent in manifest.agents.items() if agent.port]
    for name, service in manifest.services.items():
        wanted.extend((port.number, name, port.place, True) for port in service.ports)
    for number, name, place, is_service in sorted(wanted, key=lambda entry: entry[2].line):
        if number in owners:
            other, first = owners[number]
            hint = f"the first is {other} in line {first.line}" if first.line else f"the first is {other}"
            mistakes.add(f"port {number} of {name} is taken by {other}", place, f"{hint}; give {name} another port")
            continue
        owners[number] = (name, place)
        _port_in_range(manifest, mistakes, (number, name, place), is_service=is_service)


def _port_in_range(manifest: Manifest, mistakes: Mistakes, wanted: tuple[int, str, Place], *, is_service: bool) -> None:
    number, name, place = wanted
    allowed = SERVICE_RANGES if is_service else ("agents",)
    ranges = [manifest.port_ranges[key] for key in allowed]
    if any(number in entry for entry in ranges):
        return
    kind = "a service" if is_service else "an agent"
    text = ", ".join(f"{entry.first}-{entry.last} ({entry.name})" for entry in ranges)
    mistakes.add(f"port {number} of {name} is outside the range of {kind}", place, f"use {text}")


def _pools(manifest: Manifest, mistakes: Mistakes) -> None:
    total = sum(pool.size_bytes for pool in manifest.pools.values())
    host = manifest.host
    place = manifest.places.get("memory_pools", host.place)
    # Pools that nobody wrote are the blueprint's: the planner scales them to what the fleet may take.
    if (
        host.memory_bytes is not None
        and total > host.memory_bytes
        and any(pool.place.path for pool in manifest.pools.values())
    ):
        parts = " + ".join(format_bytes(pool.size_bytes) for pool in manifest.pools.values())
        mistakes.add(
            f"the pools are {format_bytes(total)} together, the host has {format_bytes(host.memory_bytes)}",
            place,
            f"{parts}; make them {format_bytes(total - host.memory_bytes)} smaller",
        )
    critical = manifest.pools["critical"]
    if manifest.platform_bytes is not None and manifest.platform_bytes >= critical.size_bytes:
        mistakes.add(
            f"platform ({format_bytes(manifest.platform_bytes)}) leaves nothing of critical "
            f"({format_bytes(critical.size_bytes)}), which it is cut from",
            critical.place,
            "make critical larger, or write platform: {size: auto}",
        )


def _limits(manifest: Manifest, mistakes: Mistakes) -> None:
    for name, service in manifest.services.items():
        if service.pool not in SERVICE_POOLS:
            mistakes.add(f"{name}: unknown pool {service.pool!r}", service.place, one_of(service.pool, SERVICE_POOLS))
            continue
        _below_pool(manifest, mistakes, (name, service.pool, service.memory_bytes), service.place)
    if manifest.llm:
        _below_pool(manifest, mistakes, ("llm", "infrastructure", manifest.llm.memory_bytes), manifest.llm.place)
    for name, agent in manifest.agents.items():
        pool = manifest.pools[agent.pool]
        if agent.memory_bytes > pool.max_per_agent_bytes:
            mistakes.add(
                f"{name}: memory {format_bytes(agent.memory_bytes)} is above the "
                f"{format_bytes(pool.max_per_agent_bytes)} that {pool.name} allows an agent",
                agent.place,
                "lower memory, or raise max_per_agent of the pool",
            )
        if pool.instance_limit and agent.instances_max > pool.instance_limit:
            mistakes.add(
                f"{name}: {agent.instances_max} instances, but {pool.name} has instance_limit {pool.instance_limit}",
                agent.place,
                "lower instances, or raise the pool's instance_limit",
            )


def _below_pool(manifest: Manifest, mistakes: Mistakes, limit: tuple[str, str, int], place: Place) -> None:
    name, pool_name, memory = limit
    pool = manifest.pools[pool_name]
    if memory > pool.size_bytes:
        mistakes.add(
            f"{name}: memory {format_bytes(memory)} is above its pool {pool_name} ({format_bytes(pool.size_bytes)})",
            place,
            f"lower memory, raise memory_pools.{pool_name}.size, or move it to another pool",
        )


def _cpu_sets(manifest: Manifest, mistakes: Mistakes) -> None:
    known = dict.fromkeys([*manifest.services, *manifest.agents, "llm", *SERVICE_POOLS])
    chosen: dict[str, str] = {}
    for entry in manifest.cpu_sets.values():
        for member in entry.members:
            if member not in known:
                mistakes.add(f"cpu_sets.{entry.name}: unknown member {member!r}", entry.place, one_of(member, known))
            elif chosen.setdefault(member, entry.name) != entry.name:
                mistakes.add(f"{member} is in two cpu sets", entry.place, f"it is in {chosen[member]} already")
    users = [(name, service.cpu, service.place) for name, service in manifest.services.items()]
    users += [(name, agent.cpu, agent.place) for name, agent in manifest.agents.items()]
    if manifest.llm:
        users.append(("llm", manifest.llm.cpu, manifest.llm.place))
    for name, share, place in users:
        if not share.cpu_set:
            continue
        if share.cpu_set not in manifest.cpu_sets:
            hint = one_of(share.cpu_set, manifest.cpu_sets) if manifest.cpu_sets else "define it under cpu_sets"
            mistakes.add(f"{name}: unknown cpu set {share.cpu_set!r}", place, hint)
        elif chosen.get(name, share.cpu_set) != share.cpu_set:
            mistakes.add(f"{name} is in two cpu sets", place, f"it is a member of {chosen[name]} already")


def _order(manifest: Manifest, mistakes: Mistakes) -> None:
    known = dict.fromkeys([*manifest.services, *WAITABLE])
    for name, service in manifest.services.items():
        for target in service.after:
            if target == name:
                mistakes.add(f"{name} waits for itself", service.place, f"remove {name} from its after")
            elif target in manifest.agents:
                mistakes.add(f"{name} waits for the agent {target}", service.place, "agents start on demand; remove it")
            elif target == "gateway":
                mistakes.add(
                    f"{name} waits for gateway", service.place, "the gateway opens when all services are ready"
                )
            elif target == "llm" and manifest.llm is None:
                mistakes.add(
                    f"{name} waits for llm, which this fleet does not have", service.place, "add llm, or remove it"
                )
            elif target not in known:
                mistakes.add(f"{name} waits for unknown {target!r}", service.place, one_of(target, known))
    edges = {name: _edges(service, manifest) for name, service in manifest.services.items()}
    if cycle := find_cycle(edges):
        mistakes.add(
            f"services wait for each other in a circle: {' → '.join(cycle)}",
            manifest.services[cycle[0]].place,
            f"remove one after, for example {cycle[1]} from {cycle[0]}",
        )


def _edges(service: Service, manifest: Manifest) -> tuple[str, ...]:
    return tuple(target for target in service.after if target in manifest.services and target != service.name)


def _needs(manifest: Manifest, mistakes: Mistakes) -> None:
    known = [*manifest.agents, *manifest.services, "llm"]
    have = set(known)
    for name, agent in manifest.agents.items():
        for target in agent.needs:
            if target not in have:
                mistakes.add(
                    f"{name} needs {target}, which this fleet does not have", agent.place, f"add {target} under agents"
                )


def _servers(manifest: Manifest, mistakes: Mistakes) -> None:
    """Look that each agent behind HTTP has a service with a port, and no other agent has the same."""
    owners: dict[str, str] = {}
    for name, agent in manifest.agents.items():
        if agent.http is None or not agent.http.service:
            continue
        service = manifest.services.get(agent.http.service)
        place = agent.http.place
        if service is None:
            hint = one_of(agent.http.service, manifest.services)
            mistakes.add(f"{name}: there is no service {agent.http.service!r}", place, hint)
        elif not service.ports:
            mistakes.add(f"{name}: the service {service.name} has no port", place, "write its port: in the service")
        elif service.name in owners:
            problem = f"{name}: {service.name} stands behind {owners[service.name]} already"
            mistakes.add(problem, place, "one agent for each server")
        owners.setdefault(agent.http.service, name)


def _families(manifest: Manifest, mistakes: Mistakes) -> None:
    families = [family.name for pool in manifest.runtime_pools.values() for family in pool.families]
    have = set(families)
    for name, agent in manifest.agents.items():
        if agent.family not in have:
            mistakes.add(
                f"{name} is of the family {agent.family}, which no worker pre-loads",
                agent.place,
                f"add it: runtime_pools: {{python: {{families: [{', '.join([*families, agent.family])}]}}}}",
            )
