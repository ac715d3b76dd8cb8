"""Why it exists: a person who asks an agent wants to read the answer, not JSON: a text as text, the rest as a listing.

What agents say is not trusted: control characters never reach the terminal.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Fields that hold an answer for people, the first that is there is shown.
TEXT_FIELDS = ("report", "markdown", "text")
_LINE_CHARACTERS_MAX = 80
_INDENT = "  "
# All control characters but tab and newline, and those that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def readable(result: Any) -> tuple[str, list[str]]:
    """Write a result for a person.

    Returns:
        The text, without a final newline, and the names of fields that it leaves out.
    """
    if isinstance(result, dict):
        for name in TEXT_FIELDS:
            text = result.get(name)
            if isinstance(text, str) and text.strip():
                return _clean(text.strip("\n")), [_clean(str(other)) for other in result if other != name]
    if isinstance(result, dict | list) and result:
        return "\n".join(_lines(result)), []
    return _scalar(result), []


def _clean(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _scalar(value: Any) -> str:
    """Write a string as itself, anything else as JSON."""
    if isinstance(value, str) and value:
        return _clean(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _lines(value: dict[str, Any] | list[Any]) -> list[str]:
    """Write a level: names aligned, deeper levels indented below their name."""
    if isinstance(value, list):
        return [line for item in value for line in _item(item)]
    names = {name: _clean(str(name)).replace("\n", " ") for name in value}
    short = [names[name] for name, item in value.items() if _one_line(item) is not None]
    width = max(map(len, short), default=0)
    lines = []
    for name, item in value.items():
        text = _one_line(item)
        if text is not None:
            lines.append(f"{names[name]:<{width}}{_INDENT}{text}")
        else:
            lines += [names[name], *(_INDENT + line for line in _block(item))]
    return lines


def _item(item: Any) -> list[str]:
    """Write an item of a list with a dash before its first line."""
    text = _one_line(item)
    first, *rest = [text] if text is not None else _block(item)
    return [f"- {first}", *(_INDENT + line for line in rest)]


def _one_line(value: Any) -> str | None:
    """Write what has room beside its name; ``None`` for what has not."""
    if isinstance(value, list) and value:
        texts = [_scalar(item) for item in value if not isinstance(item, dict | list)]
        text = ", ".join(texts)
        return text if len(texts) == len(value) and len(text) <= _LINE_CHARACTERS_MAX and "\n" not in text else None
    if isinstance(value, dict) and value:
        return None
    text = _scalar(value)
    return None if "\n" in text else text


def _block(value: Any) -> list[str]:
    return _lines(value) if isinstance(value, dict | list) else _scalar(value).split("\n")
