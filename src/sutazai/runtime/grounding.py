"""Why it exists: agents that let a model write need two things: facts cut to lines, and a check of its numbers.

A fact is what a skill gave. A sentence of the model stays only when each of its numbers stands in the material that it
was given (words like "twelve" count as numbers) and when it does not contradict another one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VALUE_CHARACTERS_MAX = 160
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DENIALS = frozenset({"not", "no", "never"})
_PREFIXED_CHARACTERS_MIN = 7
_NUMBER_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozens?|twenty|thirty|forty|fifty|hundreds?|"
    r"thousands?|millions?|half|halved|twice|double[ds]?|triple[ds]?|percent)\b",
    re.IGNORECASE,
)


def lines_of(value: Any, most: int) -> tuple[list[str], int]:
    """Cut a JSON value into lines ``path: value``; gives the first ones, and how many were left out."""
    found = list(_lines(value, ""))
    return found[:most], max(0, len(found) - most)


def _lines(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _lines(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _lines(inner, f"{path}[{number}]")
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{path or 'value'}: {text.strip()[:_VALUE_CHARACTERS_MAX]}"


def sentences_schema(most: int) -> dict[str, Any]:
    """The JSON schema of an answer in sentences."""
    items = {"type": "string", "maxLength": 240}
    return {
        "type": "object",
        "properties": {"sentences": {"type": "array", "minItems": 1, "maxItems": most, "items": items}},
        "required": ["sentences"],
        "additionalProperties": False,
    }


def sentences_of(answer: Any, most: int) -> list[str]:
    """Take sentences out of a model's answer, of whatever shape it is."""
    found = answer.get("sentences") if isinstance(answer, dict) else None
    texts = found if isinstance(found, list) else []
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()][:most]


def grounded(sentences: Sequence[str], material: str) -> tuple[list[str], list[str]]:
    """Part sentences into those that may stand, and the others.

    A sentence may stand when its numbers all stand in the material, and when no other one says the contrary: of a pair
    like "it is healthy" and "it is not healthy" neither does. The same said twice is said once.
    """
    there = set(_NUMBER.findall(material))
    kept: list[str] = []
    removed: list[str] = []
    for text in sentences:
        invented = [number for number in _NUMBER.findall(text) if number not in there]
        words = [word for word in _NUMBER_WORDS.findall(text) if word.lower() not in material.lower()]
        (removed if invented or words else kept).append(text)
    said: dict[str, set[bool]] = {}
    for text in kept:
        claim, denied = _claim(text)
        said.setdefault(claim, set()).add(denied)
    stand: dict[str, str] = {}
    for text in kept:
        claim, _ = _claim(text)
        if len(said[claim]) > 1:
            removed.append(text)
        else:
            stand.setdefault(claim, text)
    return list(stand.values()), removed


def _claim(text: str) -> tuple[str, bool]:
    """What a sentence says, without its negations, and whether it denies it."""
    words = re.findall(r"[a-z0-9.]+", text.lower().replace("n't", " not").rstrip(". "))
    denials = 0
    found = []
    for word in words:
        prefixed = len(word) >= _PREFIXED_CHARACTERS_MIN and word.startswith("un")
        denials += word in _DENIALS or prefixed
        if word not in _DENIALS:
            found.append(word.removeprefix("un") if prefixed else word)
    return " ".join(found), denials % 2 == 1
