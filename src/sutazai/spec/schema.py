"""Why it exists: an editor that knows the manifest completes keys and marks mistakes while they are typed.

The JSON Schema is not written down a second time: probes that use every part of a manifest are read by the real
readers, and a section that watches itself notes which key was asked for as what. A key that a reader learns stands in
the schema; one that it forgets is gone.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sutazai.limits import NAME_CHARACTERS_MAX
from sutazai.spec.agent import builtin_agents_dir
from sutazai.spec.budget import BLUEPRINT_RUNTIMES, FAMILY_NAMES, HOSTED_RUNTIMES
from sutazai.spec.document import parse_document
from sutazai.spec.fleet import read
from sutazai.spec.model import POOL_NAMES
from sutazai.spec.places import Mapping, Mistakes, Place, Scalar
from sutazai.spec.section import NAME, Section
from sutazai.spec.service import PORT_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sutazai.spec.quantities import Quantity

Q = TypeVar("Q", int, float)
T = TypeVar("T")
Fragment = dict[str, Any]
Pattern = tuple[str, ...]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "A fleet of sutazai"
#: Stands for any name in a pattern, like that of a service.
ANY = "*"
SCALAR: Fragment = {"type": ["string", "number", "boolean"]}
NULL: Fragment = {"type": "null"}

#: Manifests that use every part of the form, in every way it can be written. They need not be right: only what the
#: readers ask for counts, and a test holds the result against the readers' own questions.
PROBES = (
    """
fleet: a
host: {memory: auto}
memory_pools: {critical: {platform: {size: auto}}, standard: {size: 6GB}}
cpu_sets: {x: {cores: 0}}
port_ranges: {infrastructure: 1-2, monitoring: 3-4, agents: 5-6, reserved: 7-8}
runtime_pools: {python: {families: {base: {preload: [json]}}}, node: {workers: 1}, go: {status: planned}}
services:
  a: {command: x, memory: 1MB, port: 10600, ready: {http: /}, probe: {http: /}, env: {A: b}, restart: on-exit}
  b: {command: [x], memory: 1MB, ports: {web: 10601}, ready: {unix: /x}, probe: {unix: /x}}
  c: {command: x, memory: 1MB, ready: none, probe: none}
  d: {by: gateway, port: 10005}
  e: {status: planned, memory: 1MB}
agents:
  health-monitor: {settings: {a: 1}}
  own: {file: nothing.py, retry: {attempts: 2}, schedules: {a: {cron: x, input: {a: 1}}}, queue: {tasks: 1},
        breaker: {failures: 1}}
  http: {http: {service: a, skills: {ask: POST /ask}}}
  later: {status: planned}
llm: {memory: 1GB}
policies: {restart: {first: 1s}, retry: {attempts: 2}, keep: {critical: 1s}, callers: {rate: 1/s}}
""",
    "fleet: a\nruntime_pools: {python: {families: [base]}}\nagents: [health-monitor]\nllm: none\n",
)
#: Tables whose names are a fixed set.
NAMES: dict[Pattern, tuple[str, ...]] = {
    ("memory_pools",): POOL_NAMES,
    ("runtime_pools",): (*BLUEPRINT_RUNTIMES, *HOSTED_RUNTIMES),
    ("runtime_pools", ANY, "families"): FAMILY_NAMES,
}
#: Tables whose keys are the user's own, each read like the one of the probe.
OPEN: tuple[Pattern, ...] = (("services", ANY, "ports"),)
#: What must be there, which the readers find in more than one look.
SERVICE_RULES: list[Fragment] = [
    {"required": ["command", "memory"]},
    {"required": ["status", "memory"], "properties": {"status": {"const": "planned"}}},
    {"required": ["by"]},
]


class Book:
    """What the readers asked for: by section and key, each kind once.

    Attributes:
        keys: pattern of a section → key → the fragments of its value.
        required: pattern → keys that must be written.
    """

    def __init__(self) -> None:
        self.keys: dict[Pattern, dict[str, list[Fragment]]] = {}
        self.required: dict[Pattern, list[str]] = {}

    def note(self, pattern: Pattern, key: str, fragment: Fragment | None = None) -> None:
        """Note that a key was asked for, and as what."""
        kinds = self.keys.setdefault(pattern, {}).setdefault(key, [])
        if fragment is not None and fragment not in kinds:
            kinds.append(fragment)


class WatchedSection(Section):
    """A section that notes each question in a book, and answers it like any other.

    Args:
        node: as of ``Section``.
        where: as of ``Section``.
        mistakes: as of ``Section``.
        place: as of ``Section``.
        book: where questions are noted.
        pattern: names of the sections down to this one, ``ANY`` for a name of the user's.
    """

    book: Book
    pattern: Pattern

    @classmethod
    def root(cls, node: Mapping, book: Book) -> WatchedSection:
        """Make the section of a whole manifest."""
        section = cls(node, "", Mistakes())
        section.book, section.pattern = book, ()
        return section

    def child(self, node: Mapping, where: str, place: Place | None = None, *, named: bool = False) -> Section:
        """Make a section below this one that writes into the same book."""
        section = WatchedSection(node, where, self.mistakes, place)
        first, last = where.partition(".")[0], where.rpartition(".")[2]
        section.book = self.book
        section.pattern = (*(self.pattern or (first,)), ANY) if named else (*self.pattern, last)
        return section

    def _know(self, key: str) -> None:
        super()._know(key)
        self.book.note(self.pattern, key)

    def _note(self, key: str, fragment: Fragment) -> None:
        self.book.note(self.pattern, key, fragment)

    def raw(self, key: str, *, what: str, required: bool = False, hint: str = "") -> str | None:
        """Note what the example says: a port, a range, or any value."""
        if required:
            required_keys = self.book.required.setdefault(self.pattern, [])
            required_keys += [] if key in required_keys else [key]
        if what.isdecimal():
            self._note(key, {"type": "integer", "minimum": 1, "maximum": PORT_MAX})
        elif what.replace("-", "").isdecimal():
            self._note(key, {"type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$"})
        else:
            self._note(key, SCALAR)
        return super().raw(key, what=what, required=required, hint=hint)

    def identifier(
        self, key: str, default: str = "", *, required: bool = False, longest: int = NAME_CHARACTERS_MAX
    ) -> str:
        """Note a name."""
        kind = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": longest}
        return self._instead(key, kind, partial(super().identifier, key, default, required=required, longest=longest))

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        """Note a word out of a few; a word that YAML reads as a truth value is one in the editor."""
        kind = {"enum": [*known, *([False] if "false" in known else [])]}
        return self._instead(key, kind, partial(super().choice, key, known, default))

    def flag(self, key: str, *, default: bool) -> bool:
        """Note true or false."""
        return self._instead(key, {"type": "boolean"}, partial(super().flag, key, default=default))

    def count(self, key: str, default: int, *, least: int = 1, most: int = 1_000_000, what: str = "a number") -> int:
        """Note a whole number with its bounds."""
        kind = {"type": "integer", "minimum": least, "maximum": most}
        return self._instead(key, kind, partial(super().count, key, default, least=least, most=most, what=what))

    def quantity(self, key: str, kind: Quantity[Q], default: Q) -> Q:
        """Note a quantity with its units."""
        return self._instead(key, _quantity(kind), partial(super().quantity, key, kind, default))

    def auto_or(self, key: str, kind: Quantity[Q], word: str = "auto") -> Q | None:
        """Note a quantity or the word."""
        self._note(key, {"const": word})
        return self._instead(key, _quantity(kind), partial(super().auto_or, key, kind, word))

    def scalars(self, key: str) -> list[Scalar]:
        """Note a list of values, or one."""
        self._note(key, SCALAR)
        self._note(key, {"type": "array", "items": SCALAR})
        return super().scalars(key)

    def strings(self, key: str) -> dict[str, str]:
        """Note a table of texts; its keys are the user's."""
        kind = {"type": "object", "additionalProperties": {"anyOf": [SCALAR, NULL]}}
        return self._instead(key, kind, partial(super().strings, key))

    def section(self, key: str) -> Section | None:
        """Note a table."""
        self._note(key, {"$section": [*self.pattern, key]})
        return super().section(key)

    def sections(self, key: str, what: str) -> list[tuple[Scalar, Section]]:
        """Note a table of named tables."""
        self._note(key, {"$sections": [*self.pattern, key]})
        found = super().sections(key, what)
        self.book.keys[self.pattern][key].remove({"$section": [*self.pattern, key]})
        return found

    def _instead(self, key: str, kind: Fragment, ask: Callable[[], T]) -> T:
        """Ask the real getter, and note its kind instead of the single value that it looks at on its way."""
        had = list(self.book.keys.get(self.pattern, {}).get(key, []))
        answer = ask()
        self.book.keys[self.pattern][key][:] = had
        self._note(key, kind)
        return answer


def _quantity(kind: Quantity[Any]) -> Fragment:
    units = "|".join(dict.fromkeys(kind.spellings.values()))
    return {
        "type": "string",
        "pattern": rf"^[0-9]{{1,15}}(\.[0-9]{{1,6}})?({units})$",
        "description": f"{kind.article} {kind.noun}, like {kind.example}",
    }


def watch() -> Book:
    """Let the readers read the probes, and give what they asked for."""
    book = Book()
    for probe in PROBES:
        mistakes = Mistakes()
        node = parse_document(probe, "probe.yaml", mistakes)
        read(WatchedSection.root(node, book), Path("probe.yaml"), builtin_agents_dir())
    return book


def json_schema() -> Fragment:
    """Give the JSON Schema (draft 2020-12) of a manifest."""
    book = watch()
    return {"$schema": DIALECT, "title": TITLE, **_table(book, ())}


def _table(book: Book, pattern: Pattern) -> Fragment:
    properties = {key: _value(book, kinds) for key, kinds in book.keys.get(pattern, {}).items()}
    if pattern in OPEN:
        return {"type": "object", "additionalProperties": next(iter(properties.values()))}
    table: Fragment = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := book.required.get(pattern):
        table["required"] = required
    if pattern == ("services", ANY):
        table["anyOf"] = SERVICE_RULES
    return table


def _value(book: Book, kinds: list[Fragment]) -> Fragment:
    found = list(_kinds(book, kinds))
    if not found:  # asked for only whether it is there, or handed on whole
        return {}
    nullable = [*found, NULL] if any(kind.get("type") == "object" for kind in found) else found
    return nullable[0] if len(nullable) == 1 else {"anyOf": nullable}


def _kinds(book: Book, kinds: list[Fragment]) -> Iterator[Fragment]:
    for kind in kinds:
        if "$section" in kind:
            yield _table(book, tuple(kind["$section"]))
        elif "$sections" in kind:
            pattern = tuple(kind["$sections"])
            names: Fragment = {"enum": list(NAMES[pattern])} if pattern in NAMES else {"pattern": f"^{NAME.pattern}$"}
            inner = {"anyOf": [_table(book, (*pattern, ANY)), NULL]}
            yield {"type": "object", "propertyNames": names, "additionalProperties": inner}
        else:
            yield kind
