"""Why it exists: ``sutazai.yaml`` says what should run; this package reads it and finds every mistake before a start.

``load`` gives a frozen ``Manifest`` or raises ``ConfigErrors`` with all mistakes, each with its place and a hint. It
knows nothing of the machine: whether the fleet fits is the business of ``sutazai.plan``.
"""

from __future__ import annotations

from sutazai.spec.agent import builtin_agents_dir, builtin_names, load_agent_folder
from sutazai.spec.fleet import load
from sutazai.spec.model import (
    HOME_RUNTIME,
    HOSTING_POOL,
    PLATFORM_POOL,
    POOL_NAMES,
    Agent,
    Check,
    CpuSet,
    Family,
    Host,
    Llm,
    Manifest,
    Policies,
    Pool,
    PortRange,
    Provided,
    RuntimePool,
    Schedule,
    Service,
    ServicePort,
    Share,
)
from sutazai.spec.places import Place

__all__ = [
    "HOME_RUNTIME",
    "HOSTING_POOL",
    "PLATFORM_POOL",
    "POOL_NAMES",
    "Agent",
    "Check",
    "CpuSet",
    "Family",
    "Host",
    "Llm",
    "Manifest",
    "Place",
    "Policies",
    "Pool",
    "PortRange",
    "Provided",
    "RuntimePool",
    "Schedule",
    "Service",
    "ServicePort",
    "Share",
    "builtin_agents_dir",
    "builtin_names",
    "load",
    "load_agent_folder",
]
