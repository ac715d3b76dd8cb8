"""Makes manifests and hosts for the planner, in memory: the planner never looks at anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sutazai import spec
from sutazai.plan import HostFacts
from sutazai.spec.budget import BLUEPRINT_POOLS, BLUEPRINT_RANGES
from sutazai.spec.policies import DEFAULT_POLICIES
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = spec.Manifest(
    fleet="a",
    path="/fleet.yaml",
    digest="0" * 64,
    port_offset=0,
    profile="embedded",
    host=spec.Host(),
    pools=dict(BLUEPRINT_POOLS),
    platform_bytes=None,
    cpu_sets={},
    port_ranges={name: spec.PortRange(name, *ports) for name, ports in BLUEPRINT_RANGES.items()},
    runtime_pools={"python": spec.RuntimePool("python", 2, (spec.Family("base"), spec.Family("data")), 10500, 10507)},
    services={},
    agents={},
    llm=None,
    policies=DEFAULT_POLICIES,
)


def make_service(name: str, **changes: Any) -> spec.Service:
    """Build a service with a limit of 64 MB."""
    base = spec.Service(
        name=name,
        argv=("true",),
        ports=(),
        memory_bytes=64 * MIB,
        start_peak_bytes=64 * MIB,
        cpu=spec.Share(),
        pids_max=64,
        pool="infrastructure",
        after=(),
        ready=spec.Check(),
        probe=spec.Check(),
        restart_when_unhealthy=False,
        env={},
        cwd="/",
        log_bytes_max=MIB,
        stop_grace_ms=1_000,
        place=spec.Place("fleet.yaml", 7, 3),
    )
    return replace(base, **changes)


def make_agent(name: str, **changes: Any) -> spec.Agent:
    """Build an agent of the standard pool with an envelope of 64 MB."""
    base = spec.Agent(
        name=name,
        module=f"/agents/{name}",
        origin="folder",
        version="1",
        description="x",
        port=0,
        pool="standard",
        family="base",
        memory_bytes=256 * MIB,
        envelope_bytes=64 * MIB,
        cpu=spec.Share(),
        instances_max=1,
        keep_ms=60_000,
        needs=(),
        settings={},
        attempts_max=4,
        deadline_ms=60_000,
        place=spec.Place("fleet.yaml", 9, 3),
    )
    return replace(base, **changes)


@pytest.fixture(scope="session")
def fleet() -> Callable[..., spec.Manifest]:
    """Build a manifest from services, agents and changes of the blueprint's values."""

    def build(*parts: spec.Service | spec.Agent, **changes: Any) -> spec.Manifest:
        services = {part.name: part for part in parts if isinstance(part, spec.Service)}
        agents = {part.name: part for part in parts if isinstance(part, spec.Agent)}
        return replace(BASE, services=services, agents=agents, **changes)

    return build


@pytest.fixture(scope="session")
def service() -> Callable[..., spec.Service]:
    """Give the builder of services."""
    return make_service


@pytest.fixture(scope="session")
def agent() -> Callable[..., spec.Agent]:
    """Give the builder of agents."""
    return make_agent


@pytest.fixture(scope="session")
def host() -> Callable[..., HostFacts]:
    """Build a host: the blueprint's, unless told otherwise."""

    def build(cores: int = 12, memory_bytes: int = int(29.38 * GIB), **changes: Any) -> HostFacts:
        return replace(HostFacts(memory_bytes, 0, tuple(range(cores)), cgroup="v2"), **changes)

    return build
