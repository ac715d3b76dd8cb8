"""Why it exists: a workflow is a graph that can be read, checked and shown before anything runs.

A YAML file (``reading``) or Python (``building``) becomes the same graph (``model``); ``checking`` finds what is wrong
with it, all at once: cycles, missing steps, unknown agents and skills, inputs of the wrong type. ``expression`` is the
small language of conditions and inputs; it reads values and changes nothing. ``storing`` cuts a graph into pieces of
constant size, so that a run reads only the step that comes next. Pure: no clock, no socket, no store. The engine is the
agent ``agent-orchestrator``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sutazai.workflow.building import (
        Workflow,
        approve,
        ask,
        choose,
        each,
        otherwise,
        parallel,
        sequence,
        signal,
        when,
    )
    from sutazai.workflow.checking import check
    from sutazai.workflow.reading import read_data, read_file, read_text

_READING = frozenset({"read_data", "read_file", "read_text"})

__all__ = [
    "Workflow",
    "approve",
    "ask",
    "check",
    "choose",
    "each",
    "otherwise",
    "parallel",
    "read_data",
    "read_file",
    "read_text",
    "sequence",
    "signal",
    "when",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: the engine needs neither YAML nor the checks in each of its turns."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(name)
    module = "reading" if name in _READING else "checking" if name == "check" else "building"
    return getattr(import_module(f"sutazai.workflow.{module}"), name)
