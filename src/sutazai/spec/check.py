"""Why it exists: the mistakes that only show when the parts are seen together: names, ports, pools, sets, order.

Everything here can be told from the manifest alone, so it has a place in the file. What depends on the machine is the
planner's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.spec.graph import find_cycle
from sutazai.spec.model import HOME_RUNTIME, HOSTING_POOL, PLATFORM_POOL, POOL_NAMES, Agent, Manifest, Provided, Service
from sutazai.spec.section import one_of
from sutazai.spec.service import PLACEHOLDER
from sutazai.spec.standard import names_of
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.spec.places import Mistakes, Place

#: Names of our own processes; services and agents cannot have them.
PLATFORM_NAMES = ("broker", "control", "gateway", "llm", "zygote")
RESERVED_NAMES = (*PLATFORM_NAMES, *POOL_NAMES, PLATFORM_POOL, "sutazaid", "guard", "recall")
#: What a service may wait for besides other services; the rest of the platform is up before any of them.
WAITABLE = ("llm", "broker", "control", "zygote")
SERVICE_POOLS = tuple(name for name in POOL_NAMES if name != "reserve")


def check(manifest: Manifest, mistakes: Mistakes) -> None:
    """Note every contradiction between the parts of a manifest."""
    _names(manifest, mistakes)
    _pools(manifest, mistakes)
    _limits(manifest, mistakes)
    _cpu_sets(manifest, mistakes)
    _order(manifest, mistakes)
    _needs(manifest, mistakes)
    _servers(manifest, mistakes)
    _links(manifest, mistakes)
    _families(manifest, mistakes)


def _names(manifest: Manifest, mistakes: Mistakes) -> None:
    workers = {f"{pool}-" for pool in manifest.runtime_pools}
    services: dict[str, Service | Provided] = {**manifest.services, **manifest.provided}
    entries: list[tuple[str, Service | Provided | Agent]] = [*services.items(), *manifest.agents.items()]
    for name, entry in entries:
        prefix, _, number = name.rpartition("-")
        if name in RESERVED_NAMES or (f"{prefix}-" in workers and number.isdigit()):
            mistakes.add(f"the name {name} belongs to the platform", entry.place, f"call it my-{name}")
    for name in services.keys() & manifest.agents.keys():
        service, agent = services[name], manifest.agents[name]
        mistakes.add(
            f"{name} is a service and an agent",
            max(service.place, agent.place, key=lambda place: place.line),
            f"names are unique in a fleet; the first is in line {min(service.place.line, agent.place.line)}",
        )


def _pools(manifest: Manifest, mistakes: Mistakes) -> None:
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
        if service.pool == PLATFORM_POOL and (service.planned or name in names_of(manifest.profile)):
            continue
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
            if wrong := _wrong_target(manifest, service, target, known):
                mistakes.add(f"{name} waits for {wrong[0]}", service.place, wrong[1])
    edges = {name: _edges(service, manifest) for name, service in manifest.services.items()}
    if cycle := find_cycle(edges):
        mistakes.add(
            f"services wait for each other in a circle: {' → '.join(cycle)}",
            manifest.services[cycle[0]].place,
            f"remove one after, for example {cycle[1]} from {cycle[0]}",
        )


def _wrong_target(manifest: Manifest, service: Service, target: str, known: dict[str, None]) -> tuple[str, str] | None:
    """Say why a service cannot wait for something, and what to do; ``None`` when it can."""
    if target == service.name:
        return "itself", f"remove {target} from its after"
    if target in manifest.services:
        only_planned = manifest.services[target].planned and not service.planned
        return (f"{target}, which is only planned", "remove it from its after") if only_planned else None
    if target in manifest.agents:
        return f"the agent {target}", "agents start on demand; remove it"
    if target in manifest.provided:
        by = manifest.provided[target].by
        return f"{target}, which is our own {by}", f"write {by}" if by in WAITABLE else "remove it: it opens last"
    if target == "gateway":
        return "gateway", "the gateway opens when all services are ready"
    if target == "llm" and manifest.llm is None:
        return "llm, which this fleet does not have", "add llm, or remove it"
    return None if target in known else (f"unknown {target!r}", one_of(target, known))


def _edges(service: Service, manifest: Manifest) -> tuple[str, ...]:
    return tuple(target for target in service.after if target in manifest.services and target != service.name)


def _needs(manifest: Manifest, mistakes: Mistakes) -> None:
    known = [*manifest.agents, *manifest.services, *manifest.provided, "llm"]
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
        elif service.planned:
            hint = f"give {name} status: planned, too"
            mistakes.add(f"{name}: the service {service.name} is only planned", place, hint)
        elif not service.ports:
            mistakes.add(f"{name}: the service {service.name} has no port", place, "write its port: in the service")
        elif service.name in owners:
            problem = f"{name}: {service.name} stands behind {owners[service.name]} already"
            mistakes.add(problem, place, "one agent for each server")
        owners.setdefault(agent.http.service, name)


def _links(manifest: Manifest, mistakes: Mistakes) -> None:
    """Check what ``{port_of.NAME}`` in commands and environments points at."""
    known = [*manifest.services, *(["llm"] if manifest.llm else [])]
    for name, service in manifest.services.items():
        for match in (match for text in (*service.argv, *service.env.values()) for match in PLACEHOLDER.finditer(text)):
            word, target, port = match.groups()
            if word != "port_of" or not target:
                continue
            if target not in known:
                mistakes.add(f"{name}: {match[0]}: there is no service {target}", service.place, one_of(target, known))
                continue
            ports = [entry.name for entry in manifest.services[target].ports] if target in manifest.services else [""]
            if not ports:
                mistakes.add(f"{name}: {match[0]}: {target} has no port", service.place, f"give {target} a port")
            elif port and port not in ports:
                mistakes.add(f"{name}: {match[0]}: {target} has no port {port}", service.place, one_of(port, ports))


def _families(manifest: Manifest, mistakes: Mistakes) -> None:
    families = [family.name for pool in manifest.runtime_pools.values() if not pool.hosts for family in pool.families]
    have = set(families)
    for name, agent in manifest.agents.items():
        if agent.runtime != HOME_RUNTIME and not agent.planned:
            _hosted(agent, manifest, mistakes)
        elif agent.family not in have and not agent.planned:
            mistakes.add(
                f"{name} is of the family {agent.family}, which no worker pre-loads",
                agent.place,
                f"add it: runtime_pools: {{python: {{families: [{', '.join([*families, agent.family])}]}}}}",
            )


def _hosted(agent: Agent, manifest: Manifest, mistakes: Mistakes) -> None:
    """Check an agent that lives inside its worker: the kernel counts its memory where the worker stands."""
    if agent.pool != HOSTING_POOL:
        problem = f"{agent.name} is of the runtime {agent.runtime}, whose workers stand in the pool {HOSTING_POOL}"
        mistakes.add(problem, agent.place, f"write pool: {HOSTING_POOL}")
    if manifest.runtime_pools[agent.runtime].planned:
        problem = f"{agent.name} is of the runtime {agent.runtime}, which is only planned"
        mistakes.add(problem, agent.place, f"remove status: planned from runtime_pools.{agent.runtime}")
