"""Why it exists: what an agent may do to the fleet, beyond answering, stands in one table that all sides check against.

An agent asks for a power in its ``manifest.toml``; the plan carries it; the broker lets an instance ``act`` only with
it; ``sutazaid`` does it. A new power is one entry here and one operation of that name in ``supervisor.ops``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SUBJECT_CHARACTERS_MAX = 200
BYTES_MAX = 2**50


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an action.

    Attributes:
        kind: its JSON type.
        default: used when it is not given; ``None`` means that it must be given.
        least: of a number, or characters of a text.
        most: of a number, or characters of a text.
    """

    kind: Literal["text", "number", "flag"]
    default: str | int | bool | None = None
    least: int = 0
    most: int = BYTES_MAX


@dataclass(frozen=True, slots=True)
class Power:
    """One thing an agent may be allowed to do; the action and the operation of ``sutazaid`` have its name.

    Attributes:
        name: as manifests write it.
        text: for a person.
        arguments: by name.
    """

    name: str
    text: str
    arguments: dict[str, Argument]

    def read(self, given: dict[str, Any]) -> dict[str, str | int | bool]:
        """Check the arguments of an action and fill in what is not given.

        Raises:
            ValueError: one is unknown, missing, of another type, or out of its bounds; the text says which.
        """
        if unknown := sorted(set(given) - set(self.arguments)):
            raise ValueError(f"{self.name} has no argument {unknown[0]!r}; it has {', '.join(self.arguments)}")
        return {name: _value(self.name, name, argument, given.get(name)) for name, argument in self.arguments.items()}


def _value(power: str, name: str, argument: Argument, given: Any) -> str | int | bool:
    value = argument.default if given is None else given
    if value is None:
        raise ValueError(f"{power} needs the argument {name!r}")
    if argument.kind == "flag" and isinstance(value, bool):
        return value
    if argument.kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        if not argument.least <= value <= argument.most:
            raise ValueError(f"{power}: {name!r} is {argument.least} to {argument.most}, not {value}")
        return value
    if argument.kind == "text" and isinstance(value, str):
        if not argument.least <= len(value) <= argument.most:
            raise ValueError(f"{power}: {name!r} has {argument.least} to {argument.most} characters, not {len(value)}")
        return value
    raise ValueError(f"{power}: {name!r} is a {argument.kind}, not {value!r}")


_SUBJECT = Argument("text", least=1, most=SUBJECT_CHARACTERS_MAX)
_ANY_SUBJECT = Argument("text", "", most=SUBJECT_CHARACTERS_MAX)
_DRY_RUN = Argument("flag", default=True)

#: All powers by name.
POWERS: dict[str, Power] = {
    power.name: power
    for power in (
        Power(
            "reclaim",
            "give memory back: page cache of one process or of all, idle instances hibernate early",
            {"subject": _ANY_SUBJECT, "bytes": Argument("number", 0), "dry_run": _DRY_RUN},
        ),
        Power(
            "resize",
            "change the memory limit of a live process, or of an agent's future instances, until the next plan",
            {"subject": _SUBJECT, "memory_bytes": Argument("number", least=1), "dry_run": _DRY_RUN},
        ),
    )
}
