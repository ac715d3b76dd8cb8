"""Why it exists: a typed value is read out of text by rules that can be told, or it is not read at all.

Each function finds the first value of its type in a text and gives it with the characters that it stands for.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sutazai.agents.documind.models import FieldType

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar", "feb february februar", "mar march märz maerz mär", "apr april", "may mai",
            "jun june juni", "jul july juli", "aug august", "sep sept september", "oct october okt oktober",
            "nov november", "dec december dez dezember",
        ), 1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_NUMBER = r"[-+−]?(?:\d{1,3}(?:[.,'\u00a0\u202f ]\d{3})+|\d+)(?:[.,]\d+)?"
_CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "CHF": "CHF", "EUR": "EUR", "USD": "USD", "GBP": "GBP"}
_SIGN = "|".join(re.escape(sign) for sign in _CURRENCIES)
_YES, _NO = {"yes", "true", "ja", "x", "☒", "☑"}, {"no", "false", "nein", "☐"}
_SHAPES: dict[FieldType, re.Pattern[str]] = {
    "text": re.compile(r"\S(?:[^\t\n]*[^\s])?"),
    "integer": re.compile(rf"(?<![\w.,]){_NUMBER}(?![\w])"),
    "number": re.compile(rf"(?<![\w.,]){_NUMBER}(?![\w])"),
    "money": re.compile(
        rf"(?:(?P<before>{_SIGN})\s?)?(?<![\w.,])(?P<number>{_NUMBER})(?!\d)(?:\s?(?P<after>{_SIGN}))?"
    ),
    "date": re.compile(
        rf"(?<!\d)(?:(?P<iso>\d{{4}}-\d{{2}}-\d{{2}})|(?P<dotted>\d{{1,2}}\.\s?\d{{1,2}}\.\s?\d{{4}})"
        r"|(?P<slashed>\d{1,2}/\d{1,2}/\d{4})"
        rf"|(?P<day>\d{{1,2}})\.?(?:st|nd|rd|th)?\s(?P<month>{_MONTH})\.?,?\s(?P<year>\d{{4}})"
        rf"|(?P<month2>{_MONTH})\.?\s(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<year2>\d{{4}}))(?!\d)",
        re.IGNORECASE,
    ),
    "email": re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}"),
    "phone": re.compile(r"(?<![\w])\+?\(?\d[\d ()/.-]{5,20}\d(?!\w)"),
    "iban": re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)"),
    "url": re.compile(r"https?://[^\s<>\"')\]]{3,500}"),
    "boolean": re.compile(r"(?<!\w)(?:yes|no|true|false|ja|nein|x|☒|☑|☐)(?!\w)", re.IGNORECASE),
}
#: Types that are known by their form alone, so they can be found without a label.
FORMED: frozenset[FieldType] = frozenset({"email", "iban", "url"})


@dataclass(frozen=True, slots=True)
class Value:
    """A value and the characters it stands for.

    Attributes:
        value: typed.
        start: of the characters, in the text that was looked at.
        raw: the characters.
    """

    value: Any
    start: int
    raw: str


def find_all(kind: FieldType, text: str, *, day_first: bool | None, pattern: re.Pattern[str] | None) -> Iterator[Value]:
    """Find all values of a type.

    Args:
        kind: the type.
        text: to look at.
        day_first: how 3/4/2024 is meant; ``None``: not read, when both readings are dates.
        pattern: that the characters must match as a whole.
    """
    shape = pattern if pattern is not None and kind == "text" else _SHAPES[kind]
    for match in shape.finditer(text):
        raw = match.group().rstrip(" ")
        if not raw or (pattern is not None and not pattern.fullmatch(raw)):
            continue
        value = raw if kind == "text" else _typed(kind, match, day_first)
        if value is not None:
            yield Value(value, match.start(), raw)


def _typed(kind: FieldType, match: re.Match[str], day_first: bool | None) -> Any:  # noqa: FBT001 three answers
    readers: dict[FieldType, Callable[[], Any]] = {
        "integer": lambda: _integer(match.group()),
        "number": lambda: number(match.group()),
        "money": lambda: _money(match),
        "date": lambda: _date(match, day_first),
        "boolean": lambda: _boolean(match.group()),
        "iban": lambda: _iban(match.group()),
    }
    return readers.get(kind, match.group)()


def number(text: str) -> float | None:
    """Read a number as people print it: 1,234.5 and 1.234,5 and 1 234,5.

    A single comma or point before three digits (1.234) groups thousands only when it cannot be meant otherwise, so it
    is read as a decimal point; a comma (1,234) is read as a group.
    """
    plain = text.replace("−", "-").replace("\u00a0", "").replace("\u202f", "").replace("'", "").replace(" ", "")
    comma, point = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and point >= 0:
        decimal = max(comma, point)
        plain = re.sub(r"[.,]", "", plain[:decimal]) + "." + plain[decimal + 1 :]
    elif comma >= 0:
        grouped = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", plain)
        plain = plain.replace(",", "" if grouped else ".")
    elif plain.count(".") > 1:
        plain = plain.replace(".", "")
    try:
        return float(plain)
    except ValueError:
        return None


def _integer(text: str) -> int | None:
    value = number(text) if not re.fullmatch(r"[-+−]?\d{1,3}(\.\d{3})+", text) else number(text.replace(".", ""))
    return int(value) if value is not None and value == int(value) else None


def _money(match: re.Match[str]) -> dict[str, Any] | None:
    sign = match.group("before") or match.group("after")
    amount = number(match.group("number"))
    if amount is None:
        return None
    return {"amount": f"{amount:.2f}", "currency": _CURRENCIES.get(sign or "")}


def _date(match: re.Match[str], day_first: bool | None) -> str | None:  # noqa: FBT001 three answers
    parts = match.groupdict()
    try:
        if parts["iso"]:
            return dt.date.fromisoformat(parts["iso"]).isoformat()
        if parts["dotted"]:
            day, month, year = (int(part) for part in parts["dotted"].replace(" ", "").split("."))
            return dt.date(year, month, day).isoformat()
        if parts["slashed"]:
            first, second, year = (int(part) for part in parts["slashed"].split("/"))
            if day_first is None and first <= 12 and second <= 12 and first != second:  # noqa: PLR2004 months
                return None
            by_day = first > 12 if day_first is None else day_first  # noqa: PLR2004 months
            return dt.date(year, second if by_day else first, first if by_day else second).isoformat()
        month = _MONTHS[(parts["month"] or parts["month2"]).lower()]
        return dt.date(int(parts["year"] or parts["year2"]), month, int(parts["day"] or parts["day2"])).isoformat()
    except ValueError:
        return None


def _boolean(text: str) -> bool | None:
    return True if text.lower() in _YES else False if text.lower() in _NO else None


def _iban(text: str) -> str | None:
    """Check an IBAN by its check digits (ISO 7064 mod 97-10)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    digits = "".join(str(int(letter, 36)) for letter in turned)
    return plain if 15 <= len(plain) <= 34 and int(digits) % 97 == 1 else None  # noqa: PLR2004 of the standard
