"""Why it exists: one change at a time is tried, measured, tested, and kept or taken back.

So each accepted change has its own proof, and a bad one spoils no good one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.agents.code_generation_improver import measuring, proposing, testing
from sutazai.agents.code_generation_improver.models import Change
from sutazai.errors import SutazaiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, Literal

    from sutazai.agents.code_generation_improver.models import Metrics

REPAIRS_MAX = 40
REWRITES_MAX = 3
_NO_NEWLINE = "\\ No newline at end of file"


@dataclass
class Bench:
    """A copy of the code on which changes are tried.

    Attributes:
        folder: the copy.
        copy: where the tests run.
        names: files that may be changed.
        outcome: of the tests as the code is now.
        metrics: of the code as it is now.
        timeout_s: of a test run.
        changes: what was tried.
        notes: for the reader.
    """

    folder: Path
    copy: Path
    names: list[str]
    outcome: testing.Outcome
    metrics: Metrics
    timeout_s: float
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, source: Literal["ruff", "llm"], what: str, path: str, apply: Callable[[Path], bool]) -> bool:
        """Try one change; keep it when the measures and the tests allow it.

        Args:
            source: who proposes it.
            what: it is, for people.
            path: the only file that it changes.
            apply: makes it on the file; ``False`` when there is nothing to do.
        """
        place = self.folder / path
        before = place.read_bytes()
        if not apply(place):
            return False
        change = self._judge(source, what, path)
        if not change.accepted:
            place.write_bytes(before)
        self.changes.append(change)
        return change.accepted

    def _judge(self, source: Literal["ruff", "llm"], what: str, path: str) -> Change:
        refused = Change(source=source, what=what, path=path, accepted=False, why="", before=self.metrics)
        try:
            measuring.parse({path: (self.folder / path).read_text(encoding="utf-8")})
            after = measuring.measure(self.folder, self.names)
        except (SutazaiError, SyntaxError, ValueError) as error:
            return refused.model_copy(update={"why": f"cannot be measured: {error}"})
        good, why = measuring.improves(self.metrics, after)
        if not good:
            return refused.model_copy(update={"why": why, "after": after})
        outcome = testing.test(self.folder, self.copy, self.timeout_s)
        lost = self.outcome.passed - outcome.passed
        told = {"after": after, "tests": outcome.run, "confirmed_by": len(self.outcome.passed - lost)}
        if not outcome.run.green or lost:
            gone = f"{len(lost)} tests that passed do not pass" if lost else "the tests are not green"
            return refused.model_copy(update={"why": gone, **told})
        self.metrics, self.outcome = after, outcome
        return refused.model_copy(update={"accepted": True, "why": why, **told})


def repair(bench: Bench, keep_on: Callable[[float, str], bool], *, unsafe: bool) -> None:
    """Try ruff's fixes, one kind of finding in one file at a time."""
    refused: set[proposing.Repair] = set()
    for number in range(REPAIRS_MAX):
        found = proposing.repairs(bench.folder, bench.names, unsafe=unsafe)  # a repair may open the way for another
        todo = [item for item in found if item not in refused]
        if not todo:
            return
        item = todo[0]
        if not keep_on(number / (number + len(todo)), f"{item.code} in {item.path}"):
            bench.notes.append("the time was over before all repairs were tried")
            return
        if not bench.attempt(
            "ruff", f"{item.code}: {item.what}", item.path,
            lambda _, item=item: measuring.fix(bench.folder, item.path, item.code, unsafe=unsafe),  # type: ignore[misc]
        ):  # fmt: skip
            refused.add(item)
    bench.notes.append(f"{REPAIRS_MAX} repairs were tried, there are more: run it again")


def rewrite(bench: Bench, llm: Any, keep_on: Callable[[float, str], bool]) -> bool:
    """Ask the model for simpler forms of the most complex functions.

    Returns:
        Whether the model answered.
    """
    answered = False
    for complexity, path, name, source in measuring.worst(bench.folder, bench.names)[:REWRITES_MAX]:
        if complexity < proposing.COMPLEXITY_WORTH or len(source) > proposing.FUNCTION_CHARACTERS_MAX:
            continue
        if not keep_on(0.9, f"the model rewrites {name}"):
            return answered
        try:
            new = proposing.rewrite(llm, name, source)
        except SutazaiError as error:
            bench.notes.append(f"no proposals of the language model: {error}")
            return answered
        answered = True
        if new is None:
            bench.notes.append(f"the model's answer for {name} was not that function, and was dropped")
            continue
        bench.attempt(
            "llm", f"simpler {name}", path,
            lambda place, old=source, new=new: _replace(place, old, new),  # type: ignore[misc]
        )  # fmt: skip
    return answered


def _replace(place: Path, old: str, new: str) -> bool:
    text = place.read_text(encoding="utf-8")
    if text.count(old) != 1 or old == new:
        return False
    place.write_text(text.replace(old, new), encoding="utf-8", newline="")
    return True


def diff(before: dict[str, str], folder: Path) -> str:
    """Write a unified diff of all files that changed."""
    parts: list[str] = []
    for name, old in sorted(before.items()):
        new = (folder / name).read_bytes().decode("utf-8")
        if new != old:
            lines = difflib.unified_diff(
                old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
            )
            parts += [line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}\n" for line in lines]
    return "".join(parts)
