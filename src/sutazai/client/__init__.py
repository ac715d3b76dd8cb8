"""Why it exists: everybody outside the platform (command line, agents, users' scripts) asks a fleet in one way.

``FleetClient`` reads facts (HTTP on ``control.sock``), ``TaskClient`` gives work and waits for it (frames on
``broker.sock``), ``SupervisorClient`` steers processes (JSON lines on ``sutazaid.sock``; root or the fleet's user).

It is imported inside every instance, so it stays light: no HTTP library, no pydantic.
"""

from __future__ import annotations

from sutazai.client.facts import (
    AgentCard,
    Condition,
    ConditionSpan,
    Event,
    Host,
    Instance,
    LogLine,
    MemoryOwner,
    Pool,
    Process,
    Queue,
    Series,
    Status,
)
from sutazai.client.fleet import FleetClient
from sutazai.client.supervisor import SupervisorClient
from sutazai.client.tasks import TaskClient

__all__ = [
    "AgentCard",
    "Condition",
    "ConditionSpan",
    "Event",
    "FleetClient",
    "Host",
    "Instance",
    "LogLine",
    "MemoryOwner",
    "Pool",
    "Process",
    "Queue",
    "Series",
    "Status",
    "SupervisorClient",
    "TaskClient",
]
