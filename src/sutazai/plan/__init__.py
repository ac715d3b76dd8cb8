"""Why it exists: proves that a fleet fits a machine before anything starts: ports, memory, CPU, start order.

Pure: no clock, no files, no kernel. A manifest (``sutazai.spec``) and the facts of a host come in, a frozen ``Plan``
goes out. ``render`` (its own module, because it loads ``rich``) makes the table that a person reads.
"""

from __future__ import annotations

from sutazai.plan.export import to_json
from sutazai.plan.facts import HostFacts, parse_host
from sutazai.plan.make import make
from sutazai.plan.model import (
    AgentRow,
    Finding,
    LlmRow,
    Plan,
    PoolRow,
    PortRow,
    ProcessRow,
    Scaling,
    Stage,
)
from sutazai.plan.registry import to_registry

__all__ = [
    "AgentRow",
    "Finding",
    "HostFacts",
    "LlmRow",
    "Plan",
    "PoolRow",
    "PortRow",
    "ProcessRow",
    "Scaling",
    "Stage",
    "make",
    "parse_host",
    "to_json",
    "to_registry",
]
