"""Why it exists: better is a number here: findings of ruff, complexity and maintainability of radon, and no judgement.

``improves`` is the rule by which a change is accepted: no measure gets worse, and one gets better.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.agents.code_generation_improver.models import Metrics
from sutazai.runtime import NonRetryableError
from sutazai.runtime.programs import MissingProgramError, ProgramFailedError, find, run, short

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTALL = "scripts/bootstrap base llm data development"
RULES = "F,E4,E7,E9,W,B,SIM,C4,UP,PIE,RET,PERF,FURB,RUF,PLR5,PLR1,PLW,I"
IGNORED = "RUF001,RUF002,RUF003"
_RUFF_S = 30.0
_WORST = 5
_PROBLEMS = 50
#: Smaller moves of the maintainability index are noise of its formula (it counts comments and volume).
MAINTAINABILITY_SLACK = 1.0


def ruff() -> str:
    """Find ruff.

    Raises:
        MissingProgramError: it is not installed.
    """
    return find("ruff", INSTALL)


def parse(texts: dict[str, str]) -> None:
    """Make sure that all files are Python.

    Raises:
        NonRetryableError: one is not; names the line.
    """
    for name, text in texts.items():
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", 0) or 0
            raise NonRetryableError(f"{name}:{line}: this is no Python that runs here: {error}") from error


def measure(folder: Path, names: Iterable[str]) -> Metrics:
    """Measure files below a folder.

    Raises:
        MissingProgramError: ruff or radon is not installed.
        ProgramFailedError: ruff does not answer.
    """
    complexities, indexes, lines = [], [100.0], 0
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        blocks = _blocks(text)
        complexities += [block.complexity for block in blocks]
        indexes.append(_index(text))
        lines += _lines(text)
    return Metrics(
        problems=len(problems(folder, names)),
        complexity=round(sum(complexities) / len(complexities), 3) if complexities else 0.0,
        complexity_worst=max(complexities, default=0),
        maintainability=round(min(indexes), 2),
        lines=lines,
    )


def problems(folder: Path, names: Iterable[str], select: str = RULES) -> list[dict[str, Any]]:
    """List ruff's findings of files.

    Raises:
        MissingProgramError: ruff is not installed.
        ProgramFailedError: it does not answer.
    """
    files = list(names)
    if not files:
        return []
    ran = run(
        [ruff(), "check", "--isolated", "--no-cache", "--quiet", "--exit-zero", "--output-format", "json",
         "--select", select, "--ignore", IGNORED, "--", *files],
        folder=folder, timeout_s=_RUFF_S, env={"RAYON_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        found: list[dict[str, Any]] = json.loads(ran.out)
    except ValueError as error:
        raise ProgramFailedError(f"ruff gave no answer: {short(ran.told)}") from error
    return found


def fix(folder: Path, name: str, code: str, *, unsafe: bool = False) -> bool:
    """Let ruff repair one kind of finding in one file; by its safe fixes only, without ``unsafe``.

    Returns:
        Whether the file changed.
    """
    path = folder / name
    before = path.read_bytes()
    run(
        [ruff(), "check", "--isolated", "--no-cache", "--quiet", "--exit-zero",
            "--fix", "--unsafe-fixes" if unsafe else "--no-unsafe-fixes", "--select", code, "--", name],
        folder=folder, timeout_s=_RUFF_S, env={"RAYON_NUM_THREADS": "1"},
    )  # fmt: skip
    return path.read_bytes() != before


def improves(before: Metrics, after: Metrics) -> tuple[bool, str]:
    """Judge a change.

    Returns:
        Whether it is accepted, and why.
    """
    worse, better = [], []
    steps = (
        ("findings", before.problems, after.problems, 0.0),
        ("mean complexity", before.complexity, after.complexity, 0.0),
        ("worst complexity", before.complexity_worst, after.complexity_worst, 0.0),
        ("maintainability", -before.maintainability, -after.maintainability, MAINTAINABILITY_SLACK),
    )
    for name, old, new, slack in steps:
        told = f"{name} {abs(old):g} → {abs(new):g}"
        if new > old + slack:
            worse.append(told)
        elif new < old - slack:
            better.append(told)
    if worse:
        return False, "worse: " + ", ".join(worse)
    if not better:
        return False, "no measure improves"
    return True, ", ".join(better)


def worst(folder: Path, names: Iterable[str]) -> list[tuple[int, str, str, str]]:
    """List the most complex functions: complexity, file, name, source; the worst first."""
    found = []
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        rows = text.splitlines(keepends=True)
        for block in _blocks(text):
            source = "".join(rows[block.lineno - 1 : block.endline])
            found.append((int(block.complexity), name, str(block.name), source))
    return sorted(found, key=lambda item: (-item[0], item[1], item[2]))[:_WORST]


def told(entry: dict[str, Any]) -> str:
    """Say a finding of ruff in one line."""
    place = entry["location"]
    return f"{Path(entry['filename']).name}:{place['row']}: {entry['code']} {entry['message']}"


def _blocks(text: str) -> list[Any]:
    """List all functions and methods."""
    try:
        from radon.complexity import cc_visit
        from radon.visitors import Class
    except ImportError as error:
        raise MissingProgramError(f"radon is not installed here: run `{INSTALL}` in the checkout") from error
    return [block for block in cc_visit(text) if not isinstance(block, Class)]


def _index(text: str) -> float:
    from radon.metrics import mi_visit

    return float(mi_visit(text, multi=True))


def _lines(text: str) -> int:
    from radon.raw import analyze

    return int(analyze(text).sloc)
