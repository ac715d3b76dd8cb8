"""Why it exists: proposals come from known fixers, and from the language model, which is never believed.

The model rewrites one function at a time. Its answer must be one function of the same name and the same parameters;
what it is worth is decided by the tests and the measures.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from sutazai.agents.code_generation_improver import measuring

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FUNCTION_CHARACTERS_MAX = 3_000
COMPLEXITY_WORTH = 6
_PROMPT = (
    "Rewrite this Python function so that it is simpler: fewer branches, same name, same parameters, same behaviour. "
    "Answer with the function alone."
)


class Rewrite(BaseModel):
    """What the language model is asked for."""

    code: str = Field(max_length=FUNCTION_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True)
class Repair:
    """One kind of finding in one file that ruff can repair.

    Attributes:
        path: file.
        code: ruff's name of the rule.
        what: for people.
    """

    path: str
    code: str
    what: str


def repairs(folder: Path, names: Iterable[str], *, unsafe: bool = False) -> list[Repair]:
    """List what ruff's fixes would repair, a rule and file each, in order of file and rule."""
    found: dict[tuple[str, str], Repair] = {}
    kinds = {"safe", "unsafe"} if unsafe else {"safe"}
    for entry in measuring.problems(folder, names):
        if (entry.get("fix") or {}).get("applicability") in kinds:
            path = _relative(entry["filename"], folder)
            found.setdefault((path, entry["code"]), Repair(path, entry["code"], str(entry["message"])[:200]))
    return [found[key] for key in sorted(found)]


def rewrite(llm: Any, name: str, source: str) -> str | None:
    """Ask the model for a simpler form of a function.

    Returns:
        Its source with the original indentation; ``None`` when the answer is not that function.
    """
    plain = textwrap.dedent(source)
    answer = llm.chat(
        [{"role": "user", "content": f"{_PROMPT}\n\n```python\n{plain}\n```"}], schema=Rewrite, max_tokens=700
    )
    data = answer.data
    code = data.code if isinstance(data, Rewrite) else str((data or {}).get("code", ""))
    if not _same_function(plain, code, name):
        return None
    indent = source[: len(source) - len(source.lstrip())]
    return textwrap.indent(textwrap.dedent(code).strip("\n") + "\n", indent)


def _same_function(old: str, new: str, name: str) -> bool:
    try:
        before, after = ast.parse(old).body, ast.parse(textwrap.dedent(new)).body
    except (SyntaxError, ValueError, RecursionError):
        return False
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    if len(after) != 1 or len(before) != 1:
        return False
    one, other = before[0], after[0]
    if not isinstance(one, kinds) or type(one) is not type(other):
        return False
    same_names = one.name == getattr(other, "name", "") == name
    same_decorators = [ast.dump(item) for item in one.decorator_list] == [
        ast.dump(item) for item in getattr(other, "decorator_list", [])
    ]
    return same_names and same_decorators and ast.dump(one.args) == ast.dump(other.args)


def _relative(filename: str, folder: Path) -> str:
    prefix = str(folder.resolve()) + "/"
    return filename.removeprefix(prefix).removeprefix(str(folder) + "/")
