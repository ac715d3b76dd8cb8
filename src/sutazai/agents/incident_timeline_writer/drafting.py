"""Why it exists: the report is one fixed form that any reader finds their way in; only facts with sources fill it.

The language model may add a short summary. It is never the place where a fact comes from: prose with a number that the
facts do not hold, or with a number word, is dropped as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sutazai.agents.incident_timeline_writer import trace
from sutazai.agents.incident_timeline_writer.models import Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.incident_timeline_writer.ledger import Ledger
    from sutazai.agents.incident_timeline_writer.models import Entry
    from sutazai.runtime.evidence import Finding

PROSE_CHARACTERS_MAX = 600
_PROSE_CHARACTERS_MIN = 20
_SENTENCES_MAX = 3
_FACTS_OF_SECTION_MAX = 2  # more facts make a small model repeat them one by one
_REPEATED_SHARE = 0.6
_ROWS_MAX = 60
_SECTIONS: tuple[tuple[str, str], ...] = (
    ("unhealthy", "What is unhealthy"),
    ("cause", "Why"),
    ("impact", "Impact"),
    ("forecast", "What comes next"),
    ("timeline", "Time line"),
    ("action", "Actions"),
    ("missing", "Missing evidence"),
)
_EMPTY = {
    "unhealthy": "Nothing was found unhealthy.",
    "cause": "No cause was found.",
    "impact": "No impact was measured.",
    "forecast": "No forecast was made.",
    "action": "Nothing to do was found.",
}
_SPAN = re.compile(r"`([^`]*)`")
_MESSAGE = re.compile(r"[0-9].* | .*[0-9]")  # a quotation of more than one word, with a number in it
_NUMBER_WORDS = re.compile(
    r"\b(zero|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozens?|twenty|thirty|forty|fifty|sixty|"
    r"seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|half|halved|twice|double[ds]?|triple[ds]?|percent)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of.

    Attributes:
        title: heading.
        goal: what was asked, quoted.
        subject: what it is about.
        findings: statements, in order of importance inside their section.
        entries: time line.
        by: who did what, quoted as it is (agents and task ids).
    """

    title: str
    goal: str = ""
    subject: str = ""
    findings: Sequence[Finding] = field(default_factory=tuple)
    entries: Sequence[Entry] = field(default_factory=tuple)
    by: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Prose:
    """What became of the language model's summary."""

    text: str
    kind: Literal["language-model", "dropped", "none"]
    why: str


def statements(ledger: Ledger, findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Write all findings by section.

    Raises:
        ValueError: one holds a number without a source.
    """
    written: dict[str, list[str]] = {}
    for finding in findings:
        sentence = ledger.sentence(finding)
        section = written.setdefault(finding.section, [])
        if sentence not in section:
            section.append(sentence)
    return written


def accept(prose: str, ledger: Ledger) -> Prose:
    """Take a summary only when each of its numbers is one of the facts; then give it the fact's reference."""
    text = " ".join(re.sub(r"\[m[0-9]+\]|[`#*_|<>\[\]]", " ", prose).split())
    text = _tidied(text[: PROSE_CHARACTERS_MAX * 4])
    if len(text) < _PROSE_CHARACTERS_MIN:
        return Prose("", "dropped", "it says too little")
    if word := _NUMBER_WORDS.search(text):
        return Prose("", "dropped", f"it holds the number word {word.group()!r}, which no source gave")
    for number in trace.numbers(text):
        if ledger.reference_of(number) is None:
            return Prose("", "dropped", f"it holds the number {number!r}, which no source gave")
    return Prose(_referenced(text, ledger), "language-model", "each of its numbers stands in the facts")


def _tidied(text: str) -> str:
    """Keep the first whole sentences that say something new; a small model repeats itself and is cut off."""
    kept: list[str] = []
    for sentence in re.findall(r".+?[.!?](?=\s|$)", text):
        words = set(sentence.lower().split())
        new = all(len(words & set(other.lower().split())) < _REPEATED_SHARE * len(words) for other in kept)
        if new and len(kept) < _SENTENCES_MAX and len(" ".join([*kept, sentence])) <= PROSE_CHARACTERS_MAX:
            kept.append(sentence.strip())
    return " ".join(kept)


def _referenced(text: str, ledger: Ledger) -> str:
    out, rest = [], text
    for number in trace.numbers(text):
        before, _, rest = rest.partition(number)
        out.append(f"{before}{number} [{ledger.reference_of(number)}]")
    return "".join([*out, rest])


def draft(material: Material, ledger: Ledger, written: dict[str, list[str]], prose: Prose) -> Draft:
    """Put the report together and check it."""
    lines = [f"# {_plain(material.title)}", ""]
    if material.goal:
        lines += [f"Asked: `{material.goal.replace('`', ' ')}`", ""]
    if prose.text:
        lines += ["> " + prose.text, ">", "> *Summary by the language model; the facts below are computed.*", ""]
    for section, heading in _SECTIONS:
        body = [f"- {sentence}" for sentence in written.get(section, [])]
        if section == "timeline":
            body += [*([""] if body else []), *_table(material.entries, ledger)]
        if not body and section in _EMPTY:
            body = [_EMPTY[section]]
        if body:
            lines += [f"## {heading}", "", *body, ""]
    if material.by:
        lines += ["## How it was found", "", *(f"- `{item.replace('`', ' ')}`" for item in material.by), ""]
    lines += [trace.SOURCES_HEADING, ""]
    sources = ledger.sources()
    lines += [f"- [{item.id}] `{item.source}`" for item in sources]
    markdown = "\n".join(lines).rstrip() + "\n"
    verdict = trace.check(markdown, ledger.values())
    return Draft(
        markdown=markdown,
        sources=sources,
        numbers=verdict.numbers,
        untraced=verdict.problems,
        prose=prose.kind,
        prose_why=prose.why,
    )


def _plain(title: str) -> str:
    words = " ".join(title.replace("`", " ").split())
    return re.sub(r"\S*[0-9]\S*", lambda match: f"`{match.group()}`", words) or "Incident report"


def _table(entries: Sequence[Entry], ledger: Ledger) -> list[str]:
    if not entries:
        return []
    rows = ["| when (UTC) | until | kind | subject | what | times |", "| --- | --- | --- | --- | --- | --- |"]
    for entry in entries[-_ROWS_MAX:]:
        until = ledger.write(entry.until) if entry.until is not None else ""
        times = ledger.write(entry.count) if entry.count is not None else ""
        what = ledger.write(entry.text).replace("|", "\\|")
        rows.append(f"| {ledger.write(entry.at)} | {until} | {entry.kind} | `{entry.subject}` | {what} | {times} |")
    return rows


def brief(written: dict[str, list[str]]) -> str:
    """The facts as the language model reads them: the most important, bounded, clauses with numbers left out.

    It is to say in words what is the matter; the numbers stand in the report with their sources.
    """
    facts: list[str] = []
    for section in ("unhealthy", "cause", "action"):
        facts += [_without_numbers(sentence) for sentence in written.get(section, [])[:_FACTS_OF_SECTION_MAX]]
    return "\n".join(f"- {fact}" for fact in facts)[:2_000]


def _without_numbers(sentence: str) -> str:
    bare = re.sub(r" ?\[m[0-9]+\]", "", sentence)
    bare = _SPAN.sub(lambda match: "`…`" if _MESSAGE.search(match.group(1)) else match.group(), bare)
    bare = re.sub(r" \([^()`]*[0-9][^()`]*\)", "", bare)
    bare = re.sub(r" (?:since|from|at|until) [0-9][-0-9:. ]*Z", "", bare)
    clauses = re.split(r"(?<=[;:]) ", bare)  # a clause without its number means something else: it is left out whole
    kept = " ".join(clause for clause in clauses if "…" not in clause and not trace.numbers(clause))
    if not kept:
        for number in trace.numbers(bare):
            bare = bare.replace(number, "…", 1)
        return bare
    return kept.rstrip(" ;:,.") + "."
