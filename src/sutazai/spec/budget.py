"""Why it exists: reads what the fleet may take: host, memory pools, cpu sets, port ranges, runtime pools.

What is not written has the blueprint's value (§2.2 for the pools, §3.2 for the port registry).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from sutazai.limits import MANIFEST_CPU_SETS_MAX, WORKER_IDLE_MS_DEFAULT
from sutazai.spec.model import (
    PLATFORM_POOL,
    POOL_NAMES,
    CpuSet,
    Family,
    Host,
    Pool,
    PortRange,
    RuntimePool,
)
from sutazai.spec.quantities import CORES, SIZE
from sutazai.spec.section import Section, one_of
from sutazai.spec.service import PORT_MAX, is_planned
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.spec.places import Place, Scalar

#: The blueprint's pools for its host of 29.38 GB.
BLUEPRINT_POOLS = {
    "infrastructure": Pool("infrastructure", 12 * GIB, 0),
    "critical": Pool("critical", 8 * GIB, 512 * MIB),
    "standard": Pool("standard", 6 * GIB, 256 * MIB, instance_limit=24),
    "monitoring": Pool("monitoring", 2 * GIB, 0),
    "reserve": Pool("reserve", int(1.38 * GIB), 0),
}
BLUEPRINT_RANGES = {
    "infrastructure": (10000, 10199),
    "monitoring": (10200, 10299),
    "agents": (10300, 10599),
    "reserved": (10600, 10999),
}
#: Ports besides these that services may use: single ones or ranges, none unless written.
OWN_RANGE = "services"
#: Language → the ports that answer for its workers.
BLUEPRINT_RUNTIMES = {"python": (10500, 10507)}
#: Languages whose workers host their instances; a fleet has them when an agent of it is written so.
HOSTED_RUNTIMES = {"node": (10508, 10511), "go": (10512, 10515)}
DEFAULT_FAMILIES = ("base",)
FAMILY_NAMES = ("base", "data")  # as the runtime has them

PLANNED_WORKER_BYTES = 128 * MIB
HOSTING_WORKERS = 1  # of a language for which the manifest says nothing
PEAK_ABOVE_MEMORY = "is larger than memory, so the start would be killed"
CORES_MAX = 1024
WORKERS_MAX = 64
_RANGE = re.compile(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?", re.ASCII)


def read_host(root: Section) -> Host:
    """Read ``host``."""
    section = root.section("host")
    if section is None:
        return Host()
    memory = section.auto_or("memory", SIZE)
    cores = section.auto_or("cores", CORES)
    if cores is not None and cores != int(cores):
        section.add("cores", f"{cores:g} cores are no whole number", f"write {max(1, int(cores))}c")
        cores = max(1, int(cores))
    section.finish()
    return Host(memory, None if cores is None else int(cores), section.place)


def read_pools(root: Section) -> tuple[dict[str, Pool], int | None]:
    """Read ``memory_pools``; pools that are not written have the blueprint's size.

    Returns:
        All pools, and the size of the platform sub-pool if it is written.
    """
    written: dict[str, Pool] = {}
    platform_bytes: int | None = None
    for name, section in root.sections("memory_pools", "pool"):
        if name.text == PLATFORM_POOL:
            root.mistakes.add(
                "platform is cut from the critical pool", name.place, "write it below critical: platform: {size: auto}"
            )
            continue
        default = BLUEPRINT_POOLS.get(name.text)
        if default is None:
            root.mistakes.add(f"unknown pool {name.text!r}", name.place, one_of(name.text, POOL_NAMES))
            continue
        if name.text == "critical" and (inner := section.section("platform")):
            platform_bytes = inner.auto_or("size", SIZE)
            inner.finish()
        written[name.text] = _pool(section, default, name)
    return {name: written.get(name, BLUEPRINT_POOLS[name]) for name in POOL_NAMES}, platform_bytes


def _pool(section: Section, default: Pool, name: Scalar) -> Pool:
    size = section.size("size", default.size_bytes)
    largest, limit = default.max_per_agent_bytes, default.instance_limit
    if name.text in {"critical", "standard"}:
        largest = section.size("max_per_agent", largest)
        limit = section.count("instance_limit", limit, least=1, most=100_000)
        if largest > size:
            section.add("max_per_agent", "is larger than its pool", "make the pool larger, or max_per_agent smaller")
    section.finish()
    return Pool(name.text, size, largest, limit, name.place)


def read_cpu_sets(root: Section, host: Host) -> dict[str, CpuSet]:
    """Read ``cpu_sets``."""
    sets: dict[str, CpuSet] = {}
    written = root.sections("cpu_sets", "cpu set")
    if len(written) > MANIFEST_CPU_SETS_MAX:
        root.add("cpu_sets", f"these are {len(written)}", f"write at most {MANIFEST_CPU_SETS_MAX}")
    for name, section in written[:MANIFEST_CPU_SETS_MAX]:
        if not section.has("cores"):
            section.mistakes.add(f"{section.where} has no cores", section.place, "write cores: 0-3")
        cores = 0
        for item in section.scalars("cores"):
            cores |= _cores(section, item, host)
        members = tuple(item.text for item in section.scalars("members"))
        section.finish()
        sets[name.text] = CpuSet(name.text, tuple(_numbers(cores)), members, name.place)
    return sets


def _numbers(bits: int) -> list[int]:
    return [core for core in range(bits.bit_length()) if bits >> core & 1]


def _cores(section: Section, item: Scalar, host: Host) -> int:
    """Read a list of ranges into a number with a bit for each core, so that a core named a million times costs none."""
    found = 0
    for part in item.text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            section.mistakes.add(
                f"{section.where}: {part.strip()!r} is no list of cores", item.place, "write 0-3 or 0,2,4"
            )
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            section.mistakes.add(f"{section.where}: {part.strip()} runs backwards", item.place, f"write {last}-{first}")
        elif last >= CORES_MAX:
            section.mistakes.add(f"{section.where}: there is no core {last}", item.place, "cores are counted from 0")
        elif host.cores is not None and last >= host.cores:
            section.mistakes.add(
                f"{section.where}: there is no core {last}, the host has {host.cores}",
                item.place,
                f"cores are counted from 0: the last is {host.cores - 1}",
            )
        else:
            found |= (1 << last + 1) - (1 << first)
    return found


def read_port_ranges(root: Section) -> dict[str, PortRange]:
    """Read ``port_ranges``; ranges that are not written have the blueprint's ports."""
    ranges = {name: PortRange(name, *ports) for name, ports in BLUEPRINT_RANGES.items()}
    section = root.section("port_ranges")
    if section is None:
        return ranges
    for name in section.written():
        if name not in ranges:
            continue
        if ports := read_range(section, name):
            ranges[name] = PortRange(name, *ports, place=section.place_of(name))
    for name in ranges:
        section.has(name)
    for number, item in enumerate(section.scalars(OWN_RANGE), start=1):
        if ports := _ports_of(section, item):
            ranges[f"{OWN_RANGE}-{number}"] = PortRange(OWN_RANGE, *ports, place=item.place)
    section.finish()
    ordered = sorted(ranges.values(), key=lambda entry: entry.first)
    for low, high in pairwise(ordered):
        if high.first <= low.last:
            place = max(low.place, high.place, key=lambda entry: entry.line)
            root.mistakes.add(
                f"port_ranges: {low.name} ({low.first}-{low.last}) and {high.name} ({high.first}-{high.last}) overlap",
                place,
                "give each port one owner",
            )
    return ranges


def _ports_of(section: Section, item: Scalar) -> tuple[int, int] | None:
    """Read a single port or a range of them."""
    match = _RANGE.fullmatch(item.text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if 1 <= first <= last <= PORT_MAX:
        return first, last
    section.mistakes.add(
        f"{section.name(OWN_RANGE)}: {item.text!r} is no port and no range of ports",
        item.place,
        "write 8080 or 8000-8099",
    )
    return None


def read_range(section: Section, key: str) -> tuple[int, int] | None:
    """Read a range of ports, like ``10300-10599``."""
    text = section.raw(key, what="10300-10599")
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or match[2] is None:
        section.add(key, f"{text!r} is no range of ports", "write first and last, like 10300-10599")
        return None
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= PORT_MAX:
        section.add(key, f"{text} is no range of ports", f"ports are 1 to {PORT_MAX}, the smaller one first")
        return None
    return first, last


def read_runtime_pools(root: Section) -> dict[str, RuntimePool]:
    """Read ``runtime_pools``."""
    pools = {
        name: RuntimePool(name, 0, tuple(Family(family) for family in DEFAULT_FAMILIES), first, last)
        for name, (first, last) in BLUEPRINT_RUNTIMES.items()
    }
    for name, section in root.sections("runtime_pools", "runtime pool"):
        if name.text in HOSTED_RUNTIMES:
            pools[name.text] = _planned_pool(section, name) if is_planned(section) else _hosting_pool(section, name)
            continue
        default = pools.get(name.text)
        if default is None:
            root.mistakes.add(
                f"unknown runtime {name.text!r}", name.place, one_of(name.text, [*pools, *HOSTED_RUNTIMES])
            )
            continue
        pools[name.text] = _runtime_pool(section, default, name.place)
    return pools


def with_hosting(pools: dict[str, RuntimePool], runtimes: Iterable[str]) -> dict[str, RuntimePool]:
    """Add a worker for each language that agents are written in and the manifest says nothing about."""
    missing = [name for name in dict.fromkeys(runtimes) if name in HOSTED_RUNTIMES and name not in pools]
    return pools | {
        name: RuntimePool(name, HOSTING_WORKERS, (Family(name),), *HOSTED_RUNTIMES[name], hosts=True)
        for name in missing
    }


def _hosting_pool(section: Section, name: Scalar) -> RuntimePool:
    """Read workers that hold their instances inside themselves."""
    first, last = read_range(section, "ports") or HOSTED_RUNTIMES[name.text]
    workers = _hosting_workers(section, HOSTING_WORKERS, first, last)
    memory, peak = section.size("memory"), section.size("start_peak")
    if memory and peak > memory:
        section.add("start_peak", PEAK_ABOVE_MEMORY, "make memory at least as large")
    idle_ms = section.duration_ms("idle", WORKER_IDLE_MS_DEFAULT)
    section.finish()
    family = Family(name.text, (), memory, peak, name.place)
    return RuntimePool(name.text, workers, (family,), first, last, name.place, hosts=True, idle_ms=idle_ms)


def _hosting_workers(section: Section, default: int, first: int, last: int) -> int:
    room = last - first + 1
    workers = section.count("workers", default, most=WORKERS_MAX)
    if workers > room:
        section.add("workers", f"{workers} workers have only the {room} ports {first}-{last}", "widen ports, or fewer")
    return min(workers, room)


def _planned_pool(section: Section, name: Scalar) -> RuntimePool:
    """Read workers that are only planned for: how many, where, how large."""
    first, last = read_range(section, "ports") or HOSTED_RUNTIMES[name.text]
    workers = _hosting_workers(section, last - first + 1, first, last)
    memory = section.size("memory", PLANNED_WORKER_BYTES)
    section.finish()
    return RuntimePool(name.text, workers, (), first, last, name.place, planned=True, memory_bytes=memory)


def _runtime_pool(section: Section, default: RuntimePool, place: Place) -> RuntimePool:
    families = _families(section) or default.families
    for family in families:
        if family.name not in FAMILY_NAMES:
            section.mistakes.add(
                f"{section.where}.families: unknown family {family.name!r}",
                family.place,
                f"{one_of(family.name, FAMILY_NAMES)}; more modules for a family: data: {{preload: [module]}}",
            )
    workers = section.count("workers", default.workers, most=WORKERS_MAX)
    first, last = read_range(section, "ports") or (default.port_first, default.port_last)
    section.finish()
    if workers and workers < len(families):
        section.add(
            "workers", f"{workers} workers cannot hold {len(families)} families", f"write {len(families)} or more"
        )
    if workers > last - first + 1:
        section.add(
            "workers",
            f"{workers} workers have only the {last - first + 1} ports {first}-{last}",
            "widen ports, or fewer",
        )
    return RuntimePool(default.name, workers, families, first, last, place)


def _families(section: Section) -> tuple[Family, ...]:
    """Read families: a list of names, or names with settings."""
    from sutazai.spec.places import Mapping

    node = section.node("families")
    if not isinstance(node, Mapping):
        return tuple(Family(item.text, place=item.place) for item in section.scalars("families"))
    families = []
    for name, inner in section.sections("families", "family"):
        preload = tuple(item.text for item in inner.scalars("preload")) if inner.has("preload") else None
        memory, peak = inner.size("memory"), inner.size("start_peak")
        if memory and peak > memory:
            inner.add("start_peak", PEAK_ABOVE_MEMORY, "make memory at least as large")
        inner.finish()
        families.append(Family(name.text, preload, memory, peak, name.place))
    return tuple(families)
