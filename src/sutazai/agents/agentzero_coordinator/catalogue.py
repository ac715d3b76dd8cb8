"""Why it exists: what the fleet can do is read from its skills' own schemas, never from a list kept here.

A skill *has a capability* when one of the capability's words stands in its name or description **and** its schema has
one of the capability's fields: what it says, and what it gives. So a new agent that forecasts and returns how long is
left is used from the day it is installed, and a renamed one is still found.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.agentzero_coordinator.models import CatalogueAgent

_TOKEN = re.compile(r"[a-z0-9]+")
_K1, _B = 1.2, 0.75  # the usual constants of BM25 (Robertson and Zaragoza 2009)
_STEM_MIN = 3


@dataclass(frozen=True, slots=True)
class Capability:
    """Something that a goal can need.

    Attributes:
        name: in plans and traces.
        stage: 0 first, 1 with the subject known, 2 last.
        words: one stands in a skill's name or description.
        gives: one is a field of its output.
        takes: one is a field of its input; empty asks for nothing.
        query: ranks the skills that have it.
        asked_by: one in a goal means that it is needed.
    """

    name: str
    stage: int
    words: frozenset[str]
    gives: frozenset[str]
    takes: frozenset[str]
    query: str
    asked_by: frozenset[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(tokens(text))


def tokens(text: str) -> list[str]:
    """Cut a text into words, plural endings taken off."""
    found = _TOKEN.findall(text.lower())
    return [
        word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > _STEM_MIN else word
        for word in found
    ]


CAPABILITIES = (
    Capability(
        name="detect",
        stage=0,
        words=_words("unhealthy health healthy"),
        gives=frozenset({"problems", "verdict", "worst"}),
        takes=frozenset(),
        query="find out what is unhealthy now conditions causes report",
        asked_by=_words(
            "unhealthy health healthy wrong broken failing fails error trouble incident status outage down"
        ),
    ),
    Capability(
        name="diagnose-memory",
        stage=1,
        words=_words("memory ram leak"),
        gives=frozenset({"leaking", "growth", "owners"}),
        takes=frozenset(),
        query="diagnose memory who leaks slope owners",
        asked_by=_words("why cause memory leak ram grows oom incident diagnose"),
    ),
    Capability(
        name="forecast",
        stage=1,
        words=_words("forecast predict exhausted exhaustion"),
        gives=frozenset({"left", "earliest", "end_low"}),
        takes=frozenset(),
        query="forecast when memory is exhausted meets its limit",
        asked_by=_words("forecast when will predict exhausted future long next incident"),
    ),
    Capability(
        name="timeline",
        stage=1,
        words=_words("timeline time line history events"),
        gives=frozenset({"entries"}),
        takes=frozenset(),
        query="time line of events restarts conditions logs",
        asked_by=_words("timeline happened history post mortem incident why"),
    ),
    Capability(
        name="report",
        stage=2,
        words=_words("report draft post mortem"),
        gives=frozenset({"markdown"}),
        takes=frozenset({"findings"}),
        query="write the incident report post-mortem from findings with sources",
        asked_by=_words("report write document post mortem incident summary"),
    ),
)
BY_NAME = {capability.name: capability for capability in CAPABILITIES}


@dataclass(frozen=True, slots=True)
class Card:
    """A skill that can be asked.

    Attributes:
        id: ``agent.skill``.
        agent: its agent.
        skill: its name.
        description: one sentence.
        input: JSON schema.
        capabilities: names, derived.
    """

    id: str
    agent: str
    skill: str
    description: str
    input: dict[str, Any]
    capabilities: frozenset[str]

    @property
    def text(self) -> str:
        """What a search sees."""
        return f"{self.agent} {self.skill} {self.description}"


def cards(agents: Sequence[CatalogueAgent], without: str) -> list[Card]:
    """Make the cards of all skills but those of one agent (the coordinator does not ask itself)."""
    found = []
    for agent in agents:
        for skill in agent.skills if agent.name != without else ():
            gives = frozenset(skill.output.get("properties", {}))
            takes = frozenset(skill.input.get("properties", {}))
            said = _words(f"{skill.name.replace('_', ' ')} {skill.description}")
            has = frozenset(
                capability.name
                for capability in CAPABILITIES
                if said & capability.words
                and gives & capability.gives
                and (not capability.takes or takes & capability.takes)
            )
            found.append(
                Card(f"{agent.name}.{skill.name}", agent.name, skill.name, skill.description, skill.input, has)
            )
    return found


def needs(goal: str) -> list[str]:
    """What a goal needs, by its words, in the order of work; one that says nothing known needs a look and a report."""
    said = frozenset(tokens(goal))
    asked = [capability.name for capability in CAPABILITIES if said & capability.asked_by]
    if not asked:
        return ["detect", "report"]
    if "report" not in asked:
        asked.append("report")  # the answer to a goal is always a report
    if "detect" not in asked:
        asked.insert(0, "detect")  # and a report needs to know what it is about
    return asked


def rank(query: str, among: Sequence[Card]) -> list[Card]:
    """Order skills by how well their words fit a query (BM25), the best first; equal ones by name."""
    documents = [Counter(tokens(card.text)) for card in among]
    lengths = [sum(document.values()) for document in documents]
    average = sum(lengths) / len(lengths) if lengths else 1.0
    asked = set(tokens(query))
    weights = {}
    for word in asked:
        hits = sum(1 for document in documents if word in document)
        weights[word] = math.log(1 + (len(documents) - hits + 0.5) / (hits + 0.5))

    def score(index: int) -> float:
        total = 0.0
        for word in asked:
            count = documents[index][word]
            total += weights[word] * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[index] / average))
        return total

    order = sorted(range(len(among)), key=lambda index: (-score(index), among[index].id))
    return [among[index] for index in order]


def suited(capability: str, among: Sequence[Card]) -> list[Card]:
    """Skills that have a capability, the best first."""
    return rank(BY_NAME[capability].query, [card for card in among if capability in card.capabilities])
