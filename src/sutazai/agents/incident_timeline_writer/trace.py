"""Why it exists: "every number is traceable" is only true when a program checks it, the writer's own report first.

The rule: outside of code spans, code blocks and the list of sources, each number is followed by a reference ``[m7]``;
the list of sources has a line for it; and the number is one that this source gave. ``check`` returns what breaks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SOURCES_HEADING = "## Sources"

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_REFERENCE = re.compile(r"\[(m[0-9]{1,5})\]")
_NUMBER = re.compile(
    r"""(?<![\w.])
    (?:
      [0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?\ ?(?:Z|UTC)?)?   # a day, a point in time
      | [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:\ ?(?:Z|UTC))?                                # a time of day
      | [-+−]?[0-9][0-9_,]*(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?
        (?:\ ?(?:%|[KMGT]?B(?:/s)?|ms|s|m|h|d)(?![\w/]))?                                       # a number and its unit
    )""",
    re.VERBOSE,
)
_FOLLOWED = re.compile(r"\s?\[(m[0-9]{1,5})\]")
_SOURCE_LINE = re.compile(r"^- \[(m[0-9]{1,5})\] (.+?)(?:: (.*))?$")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        numbers: how many numbers the report states outside of quotations.
        problems: what is not traceable, one sentence each; empty is good.
        resolved: source by reference.
    """

    numbers: int
    problems: list[str]
    resolved: dict[str, str] = field(default_factory=dict)


def check(markdown: str, values: dict[str, list[str]] | None = None) -> Verdict:
    """Check that each number in a report has a source that resolves.

    Args:
        markdown: the report.
        values: for each reference, the numbers as written that its source gave; when given, each number must be one
            of them.
    """
    body, _, listed = markdown.partition(f"\n{SOURCES_HEADING}\n")
    resolved = _sources(listed)
    problems: list[str] = []
    count = 0
    text = _CODE.sub(lambda match: "·" * len(match.group()), body)
    hidden = _REFERENCE.sub(lambda match: "·" * len(match.group()), text)
    for match in _NUMBER.finditer(hidden):
        count += 1
        written = match.group().strip()
        place = f"{written!r} in {_line(body, match.start())!r}"
        follows = _FOLLOWED.match(text, match.end())
        if follows is None:
            problems.append(f"no source after {place}")
        elif follows.group(1) not in resolved:
            problems.append(f"[{follows.group(1)}] after {place} is not in the list of sources")
        elif values is not None and written not in values.get(follows.group(1), []):
            problems.append(f"[{follows.group(1)}] did not give {place}")
    problems.extend(
        f"[{reference}] is used and not in the list of sources"
        for reference in sorted(set(_REFERENCE.findall(text)) - set(resolved))
    )
    return Verdict(count, problems, resolved)


def numbers(text: str) -> list[str]:
    """All numbers in a text outside of code spans, as written."""
    return [match.group().strip() for match in _NUMBER.finditer(_CODE.sub("·", text))]


def _sources(listed: str) -> dict[str, str]:
    found = {}
    for line in listed.splitlines():
        if match := _SOURCE_LINE.match(line.strip()):
            found[match.group(1)] = match.group(2).strip("` ")
    return {reference: source for reference, source in found.items() if source}


def _line(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end >= 0 else len(text)].strip()[:120]
