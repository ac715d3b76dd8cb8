"""Why it exists: facts are listed as skills gave them, and the model's words stand before them.

Pure: what the model answered comes in as an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.agents.crewai.models import Facts, Work
from sutazai.runtime.grounding import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sutazai.agents.crewai.models import Brief, Role, Seen, Told

LINES_MAX = 24
_CONTEXT_CHARACTERS_MAX = 1_500
_PROMPT_CHARACTERS_MAX = 5_000
SENTENCES_MAX = 5


def facts_of(asked: Sequence[str], seen: Mapping[str, Seen]) -> tuple[list[Facts], list[str]]:
    """Cut what skills gave into lines; gives those, and what gave nothing with its reason."""
    found, failed = [], []
    for skill, end in zip(asked, seen.values(), strict=False):
        if end.status != "succeeded":
            failed.append(f"{skill} {end.status}: {(end.error or {}).get('message') or 'no reason was given'}"[:300])
            continue
        lines, left_out = lines_of(end.result, LINES_MAX)
        found.append(Facts(skill=skill, lines=lines, left_out=left_out))
    return found, failed


def question(brief: Brief, role: Role, facts: Sequence[Facts]) -> list[dict[str, str]]:
    """The messages that the model is asked with."""
    system = f"You are {role.name}. {role.goal} {role.backstory}".strip()
    system += " Write a few plain sentences. Use only what is given; invent no numbers. Answer with JSON."
    parts = [f"Task: {brief.task.description}"]
    if brief.task.expected:
        parts.append(f"Expected: {brief.task.expected}")
    parts += [f"From {name}:\n{text[:_CONTEXT_CHARACTERS_MAX]}" for name, text in brief.context.items()]
    parts += [f"Facts of {each.skill}:\n" + "\n".join(each.lines) for each in facts]
    if brief.feedback:
        parts.append(f"The last version would not do: {brief.feedback}")
    content = "\n\n".join(parts)[:_PROMPT_CHARACTERS_MAX]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


@dataclass(frozen=True, slots=True)
class Words:
    """What came of the model.

    Attributes:
        kept: sentences that may stand.
        removed: sentences with numbers that nothing holds.
        why: there is none of them; empty when there are some.
    """

    kept: list[str]
    removed: list[str]
    why: str


def work(brief: Brief, role: str, found: tuple[list[Facts], list[str]], words: Words) -> Work:
    """Put the outcome of a task together: words, facts, and what gave nothing."""
    facts, failed = found
    kept, removed, why = words.kept, words.removed, words.why
    parts = [" ".join(kept)] if kept else []
    parts += [f"Facts of `{each.skill}`:\n\n" + "\n".join(f"- {line}" for line in each.lines) for each in facts]
    if failed:
        parts.append("Missing: " + "; ".join(failed) + ".")
    if not parts:
        source = f"its context is {', '.join(brief.context)}" if brief.context else "no skill was asked"
        parts.append(f"There is nothing to say on this without a language model: {source}.")
    if not kept and not why and removed:
        why = "every sentence of the model held a number that no fact has"
    return Work(
        task=brief.task.name, role=role, text="\n\n".join(parts), facts=facts, failed=failed,
        prose="llm" if kept else "none", why="" if kept else why, removed=removed,
    )  # fmt: skip


def review_by_rules(task: Told, work: Work) -> str:
    """Say why a task's outcome will not do by what can be known; empty when nothing is against it."""
    if task.asked and not work.facts:
        return f"none of {', '.join(task.asked)} gave facts"
    if work.removed:
        return "leave out numbers that no fact has: " + "; ".join(work.removed)[:300]
    return ""


def words_of(text: str) -> set[str]:
    """Words of a text that mean something."""
    return set(re.findall(r"[a-z0-9]{4,}", text.lower()))
