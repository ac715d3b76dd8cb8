"""Why it exists: a value is where its label says: behind it, below it, or in its column; and it is literally there.

Nothing here invents a character. Each candidate is a slice of a page's text, and carries page and offset of the slice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.agents.documind import values
from sutazai.agents.documind.models import Candidate, Evidence, PageText, Wanted
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sutazai.agents.documind.models import How

CANDIDATES_MAX = 20
SNIPPET_CHARACTERS_MAX = 200
_ORDER: tuple[How, ...] = ("label", "table-row", "table-column", "next-line", "pattern")


@dataclass(frozen=True, slots=True)
class Question:
    """A field, ready to be looked for.

    Attributes:
        wanted: as it was asked for.
        labels: lower case, without punctuation at the end.
        pattern: compiled; ``None`` for none.
        day_first: how 3/4/2024 is meant.
    """

    wanted: Wanted
    labels: tuple[str, ...]
    pattern: re.Pattern[str] | None
    day_first: bool | None

    @classmethod
    def of(cls, name: str, wanted: Wanted, *, day_first: bool | None) -> Question:
        """Prepare a field.

        Raises:
            NonRetryableError: its pattern is no regular expression.
        """
        try:
            pattern = re.compile(wanted.pattern) if wanted.pattern else None
        except re.error as error:
            raise NonRetryableError(f"the pattern of {name} is no regular expression: {error}") from error
        labels = wanted.labels or [re.sub(r"[_-]+", " ", name)]
        return cls(wanted, tuple(_plain(label) for label in labels), pattern, day_first)

    def read(self, text: str) -> Iterator[values.Value]:
        """Find values of this field's type in a text."""
        return values.find_all(self.wanted.type, text, day_first=self.day_first, pattern=self.pattern)


def candidates(question: Question, pages: list[PageText]) -> list[Candidate]:
    """Find all values that may be meant, the best first."""
    found: list[tuple[int, int, Candidate]] = []
    for page in pages:
        for rank, start, value, how in _of_page(question, page):
            found.append((_ORDER.index(how), rank, _candidate(page, start, value, how)))
    if not found and (question.pattern is not None or question.wanted.type in values.FORMED):
        for page in pages:
            found += [
                (_ORDER.index("pattern"), 0, _candidate(page, 0, value, "pattern"))
                for value in question.read(page.text)
            ]
    found.sort(key=lambda item: (item[0], item[1], item[2].evidence.page, item[2].evidence.offset))
    kept: dict[tuple[int, int], Candidate] = {}
    for _, _, item in found:
        kept.setdefault((item.evidence.page, item.evidence.offset), item)
    return list(kept.values())[:CANDIDATES_MAX]


def best(found: list[Candidate]) -> list[Candidate]:
    """Keep the candidates that are as good as the first, one for each value."""
    if not found:
        return []
    kept: list[Candidate] = []
    for item in found:
        if item.evidence.how == found[0].evidence.how and all(item.value != other.value for other in kept):
            kept.append(item)
    return kept


def _of_page(question: Question, page: PageText) -> Iterator[tuple[int, int, values.Value, How]]:
    """Give rank of the label, start of the text that was looked at, value and way."""
    lines = list(_lines(page.text))
    for number, (start, line) in enumerate(lines):
        for rank, label in enumerate(question.labels):
            end = _after_label(line, label)
            if end is None:
                continue
            first = next(question.read(line[end:]), None)
            if first is not None:
                yield rank, start + end, first, "label"
            elif not line[end:].strip() and number + 1 < len(lines):
                below_start, below = lines[number + 1]
                value = next(question.read(below), None)
                if value is not None:
                    yield rank, below_start, value, "next-line"
    yield from _of_tables(question, page)


def _of_tables(question: Question, page: PageText) -> Iterator[tuple[int, int, values.Value, How]]:
    for table in page.tables:
        for row_number, row in enumerate(table):
            for column, cell in enumerate(row):
                label = _plain(cell)
                if label not in question.labels:
                    continue
                rank = question.labels.index(label)
                is_header = row_number == 0 and len(row) > 2 and len(table) > 1  # noqa: PLR2004 two are a name and a value
                if column + 1 < len(row) and not is_header:
                    yield from _in_cell(question, page, row, row[column + 1], rank, "table-row")
                if row_number == 0:
                    for below in table[1:]:
                        if column < len(below):
                            yield from _in_cell(question, page, below, below[column], rank, "table-column")


def _in_cell(
    question: Question, page: PageText, row: list[str], cell: str, rank: int, how: How
) -> Iterator[tuple[int, int, values.Value, How]]:
    """Find a cell's value in the page's text again: only what stands there is given."""
    if (value := next(question.read(cell), None)) is None:
        return
    first = next((text for text in row if text), "")
    whole = re.compile(rf"(?<!\w){re.escape(value.raw)}(?!\w)")
    for start, line in _lines(page.text):
        places = [match.start() for match in whole.finditer(line)]
        if first in line and places:
            place = places[-1] if how == "table-row" else places[0]
            yield rank, start + place, values.Value(value.value, 0, value.raw), how
            return


def _candidate(page: PageText, start: int, value: values.Value, how: How) -> Candidate:
    offset = start + value.start
    line_start = page.text.rfind("\n", 0, offset) + 1
    line_end = page.text.find("\n", offset)
    line = page.text[line_start : line_end if line_end >= 0 else len(page.text)]
    evidence = Evidence(
        page=page.number, offset=offset, raw=value.raw, snippet=line.strip()[:SNIPPET_CHARACTERS_MAX], how=how
    )
    return Candidate(value=value.value, evidence=evidence)


def _after_label(line: str, label: str) -> int | None:
    """Find where the value begins behind a label that stands at the line's start, a cell's start or a wide gap."""
    words = r"\s+".join(map(re.escape, label.split()))
    pattern = rf"(?:^|\t|\s{{2,}}|[|;,]\s?){words} *(?:[:#.№=]| |$)[ :.#=]*(?!\t)"
    match = re.search(pattern, line, re.IGNORECASE)
    return match.end() if match else None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _plain(text: Any) -> str:
    return " ".join(str(text).lower().split()).rstrip(":.# ")
