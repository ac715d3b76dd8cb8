"""Why it exists: what an agent is written with, and the small process that it runs in.

An agent is a module with an ``Agent`` and typed functions (``skill``, ``schema``, ``flow``, ``context``). A zygote
(``zygote``, ``families``) imports and warms everything once and forks one process for each agent that is awake
(``instance``); that process leases turns from the broker, runs them and commits them (``activation``, ``execute``,
``watch``, ``broker_link``). ``describe`` prints an agent's schemas.

Closed kernel: these modules import ``wire``, ``client`` and the foundation only. An instance opens no database, runs
no server, and holds one unix socket.
"""

from __future__ import annotations

from sutazai.errors import NonRetryableError, SkillError, UnavailableError
from sutazai.runtime.answers import Answer
from sutazai.runtime.context import Context
from sutazai.runtime.flow import Call, Fallback, Result, Wait
from sutazai.runtime.skill import Agent
from sutazai.runtime.turn import TaskInfo

__all__ = [
    "Agent",
    "Answer",
    "Call",
    "Context",
    "Fallback",
    "NonRetryableError",
    "Result",
    "SkillError",
    "TaskInfo",
    "UnavailableError",
    "Wait",
]
