"""Why it exists: the graph of a workflow as plain frozen values; YAML and Python make the same one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sutazai.spec.places import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and the pauses between.

    Attributes:
        attempts: all in all.
        pause_ms: before the second one; doubles each time.
        longest_ms: bound of the pause.
    """

    attempts: int = 1
    pause_ms: int = 1_000
    longest_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a workflow.

    Attributes:
        type: a JSON type, or ``any``.
        description: for people.
        required: there is no default.
        default: JSON.
    """

    type: str = "any"
    description: str = ""
    required: bool = True
    default: Any = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step; which fields matter follows from ``kind``.

    Attributes:
        name: unique in the workflow; made up for the body of a map and the branches of a choice.
        kind: one of ``KINDS``.
        place: where it was written.
        condition: ``if``: without it, or when it holds, the step runs; else it is skipped.
        go_on: ``on_error: continue``: its failure does not fail what it is part of.
        timeout_ms: of one attempt; 0 for the agent's default.
        retry: by the workflow; None leaves it to the agent's own policy.
        after: names of steps of the same ``parallel`` that must be over before.
        agent: for ``ask``.
        skill: for ``ask``; name of the signal for ``signal``.
        given: ``with``: JSON with expressions.
        text: for people, with expressions; for ``approve`` and ``signal``.
        show: JSON with expressions, shown to people.
        steps: of ``steps`` and ``parallel``; the branches of ``choose``, the body of ``map`` (one).
        over: expression that gives the list of a map.
        variable: name of the item in a map's body.
        width: most items of a map at once.
        fallback: of ``ask``: ``{"value": …}`` or ``{"agent", "skill", "given"}``, JSON with expressions; None for none.
        output: expression in JSON that makes the result of ``steps``; None for the last step's.
        places: where values of ``given`` and the like were written, by path.
    """

    name: str
    kind: str
    place: Place = field(default=NOWHERE, compare=False)
    condition: str = ""
    go_on: bool = False
    timeout_ms: int = 0
    retry: Retry | None = None
    after: tuple[str, ...] = ()
    agent: str = ""
    skill: str = ""
    given: Any = None
    text: str = ""
    show: Any = None
    steps: tuple[Step, ...] = ()
    over: str = ""
    variable: str = "item"
    width: int = 1
    fallback: dict[str, Any] | None = None
    output: Any = None
    places: dict[str, Place] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Flow:
    """A whole workflow.

    Attributes:
        name: of it.
        description: for people.
        inputs: by name.
        root: a ``steps`` step that holds everything.
    """

    name: str
    description: str
    inputs: dict[str, Input]
    root: Step
