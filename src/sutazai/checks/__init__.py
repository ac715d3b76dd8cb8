"""Why it exists: an agent is real when it does golden tasks on real input; ``checks.toml`` in its folder holds them.

``load`` reads the file, ``judge`` compares a task that ended with what was expected. Nothing here runs a task:
``sutazai smoke`` does. The format is in ``docs/reference/checks.md``.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.checks.judging import Expectation, Verdict, expected
from sutazai.errors import ConfigError, ConfigErrors
from sutazai.units import parse_bytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Check", "Expectation", "Verdict", "judge", "load", "load_peak_max_bytes"]

_CHECK_KEYS = {"name", "skill", "input", "expect", "error", "session"}
_EXPECT_KEYS = {"path", "equals", "tolerance", "min", "max", "contains", "matches"}


@dataclass(frozen=True, slots=True)
class Check:
    """One golden task, or one bad input.

    Attributes:
        name: for people, unique in its file.
        skill: of the agent.
        input: as JSON.
        expectations: all must hold of the result; empty when an error is expected.
        error: code of the expected error, else empty.
        session: of the task, empty for none.
    """

    name: str
    skill: str
    input: dict[str, Any] = field(default_factory=dict)
    expectations: tuple[Expectation, ...] = ()
    error: str = ""
    session: str = ""


def load(path: Path) -> list[Check]:
    """Read an agent's checks.

    Args:
        path: ``checks.toml``, or the agent's folder.

    Raises:
        ConfigErrors: the file is missing or no TOML, or checks are wrong; all mistakes at once.
    """
    file, data = _read(path)
    mistakes: list[ConfigError] = []
    entries = data.get("check", [])
    if unknown := sorted(set(data) - {"check", "memory"}):
        mistakes.append(_mistake(file, f"unknown table {', '.join(unknown)}", "there are [[check]] and [memory]"))
    if not isinstance(entries, list) or not entries:
        mistakes.append(_mistake(file, "there is no [[check]]", "write at least two golden tasks and one bad input"))
        entries = []
    checks = [check for number, entry in enumerate(entries) if (check := _check(file, number, entry, mistakes))]
    names = [check.name for check in checks]
    mistakes += [
        _mistake(file, f"two checks are called {name!r}") for name in sorted(set(names)) if names.count(name) > 1
    ]
    if mistakes:
        raise ConfigErrors(f"{file} has {len(mistakes)} mistakes", mistakes)
    return checks


def load_peak_max_bytes(path: Path) -> int | None:
    """Read the memory that an instance may need at most while it does its checks; ``None`` when the file names none.

    Raises:
        ConfigErrors: the file is missing or no TOML, or the amount has no unit.
    """
    file, data = _read(path)
    value = data.get("memory", {}).get("peak_max") if isinstance(data.get("memory", {}), dict) else ""
    if value is None:
        return None
    try:
        return parse_bytes(str(value))
    except ValueError as error:
        raise ConfigErrors("the file has a mistake", [_mistake(file, f"[memory] peak_max: {error}")]) from error


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    file = path / "checks.toml" if path.is_dir() else path
    try:
        return file, tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigErrors("the file cannot be read", [_mistake(file, f"cannot read the checks: {text}")]) from error


def _mistake(file: Path, problem: str, hint: str = "") -> ConfigError:
    return ConfigError(problem, path=str(file), hint=hint)


def _check(file: Path, number: int, entry: Any, mistakes: list[ConfigError]) -> Check | None:
    if not isinstance(entry, dict):
        mistakes.append(_mistake(file, f"check {number + 1} is no table", "write [[check]]"))
        return None
    name = str(entry.get("name") or f"check {number + 1}")
    before = len(mistakes)

    def wrong(problem: str, hint: str = "") -> None:
        mistakes.append(_mistake(file, f"{name}: {problem}", hint))

    if unknown := sorted(set(entry) - _CHECK_KEYS):
        wrong(f"unknown key {', '.join(unknown)}", f"there are {', '.join(sorted(_CHECK_KEYS))}")
    for key in ("name", "skill"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            wrong(f"{key!r} is missing")
    if not isinstance(entry.get("input", {}), dict):
        wrong("'input' is no table of parameters")
    if ("expect" in entry) == ("error" in entry):
        wrong("it needs either 'expect' or 'error'")
    expectations = [_expectation(part, wrong) for part in _as_list(entry.get("expect", []))]
    if len(mistakes) > before:
        return None
    return Check(
        name=name,
        skill=entry["skill"],
        input=entry.get("input", {}),
        expectations=tuple(part for part in expectations if part is not None),
        error=str(entry.get("error", "")),
        session=str(entry.get("session", "")),
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _expectation(part: Any, wrong: Any) -> Expectation | None:
    if not isinstance(part, dict) or not set(part) - {"path", "tolerance"}:
        wrong("'expect' says nothing", 'write a table like { path = "total", equals = 3 }')
        return None
    if unknown := sorted(set(part) - _EXPECT_KEYS):
        wrong(f"unknown key {', '.join(unknown)} in 'expect'", f"there are {', '.join(sorted(_EXPECT_KEYS))}")
        return None
    try:
        re.compile(str(part.get("matches", "")))
    except re.error as error:
        wrong(f"'matches' is no regular expression: {error}")
        return None
    return Expectation(
        path=str(part.get("path", "")), rules={key: value for key, value in part.items() if key != "path"}
    )


def judge(check: Check, task: dict[str, Any]) -> Verdict:
    """Compare a task that ended with what its check expects.

    Args:
        check: what is expected.
        task: the task as the broker tells it: ``status``, ``result``, ``error``; also inside of a ``task`` reply.
    """
    row = task["task"] if isinstance(task.get("task"), dict) else task
    status, error = row.get("status"), row.get("error") or {}
    code = str(error.get("code", ""))
    if check.error:
        if code == check.error:
            return Verdict(ok=True, text=f"refused with {code}, as it should")
        return Verdict(ok=False, text=f"expected the error {check.error!r}, got {code or status!r}")
    if status != "succeeded":
        return Verdict(ok=False, text=f"the task is {status}: {code} {error.get('message', '')}".rstrip())
    for expectation in check.expectations:
        verdict = expected(expectation, row.get("result"))
        if not verdict.ok:
            return verdict
    return Verdict(ok=True, text=f"{len(check.expectations)} expectations hold")
