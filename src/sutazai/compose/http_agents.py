"""Why it exists: an agent that is a FastAPI or Flask program becomes an HTTP agent without a change of its code.

Its operations are read from its OpenAPI document where one lies beside it, else from its source.
Nothing is imported or run; a program whose operations cannot be told stays a service.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SOURCE_FILES_MAX = 60
SOURCE_BYTES_MAX = 256 * 1024
SKILLS_MAX = 50
METHODS = ("get", "post", "put", "patch", "delete")
FRAMEWORKS = ("FastAPI", "Flask", "Quart")
#: What a fleet's gateway answers itself, and what is no work.
NO_WORK = ("/", "/health", "/healthz", "/ready", "/livez", "/readyz", "/metrics", "/skills", "/tasks", "/docs", "/ping")
DOCUMENTS = ("openapi.json", "docs/openapi.json")


@dataclass
class Operations:
    """What an HTTP program can do.

    Attributes:
        document: its OpenAPI document, if there is one.
        skills: name → ``METHOD /path``.
    """

    document: Path | None = None
    skills: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether it can do anything that we know of."""
        return self.document is not None or bool(self.skills)


def find_operations(folder: Path) -> Operations:
    """Find out what the program in a folder can do.

    Args:
        folder: its working folder; files below it are read, none is run.
    """
    document = next((folder / name for name in DOCUMENTS if (folder / name).is_file()), None)
    found = Operations(document)
    if document is not None:
        return found
    hidden = {"venv", "node_modules", "tests", "test"}
    paths = sorted(
        path
        for path in folder.rglob("*.py")
        if not any(part.startswith(".") or part in hidden for part in path.relative_to(folder).parts)
    )
    for path in paths[:SOURCE_FILES_MAX]:
        if path.is_symlink() or path.stat().st_size > SOURCE_BYTES_MAX:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for name, operation in _operations(tree):
            if len(found.skills) < SKILLS_MAX:
                found.skills.setdefault(name, operation)
    return found


def _operations(tree: ast.Module) -> list[tuple[str, str]]:
    apps = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _name(node.value.func) in FRAMEWORKS
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.islower():
            continue
        for decorator in node.decorator_list:
            operation = _operation(decorator, apps)
            if operation and not node.name.startswith("_"):
                found.append((node.name, operation))
    return found


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _operation(node: ast.expr, apps: set[str]) -> str:
    """Read ``@app.post("/path")``; empty when it is something else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return ""
    owner, path = node.func.value, node.args[0]
    if not (isinstance(owner, ast.Name) and owner.id in apps):
        return ""
    if not (isinstance(path, ast.Constant) and isinstance(path.value, str) and path.value.startswith("/")):
        return ""
    method = node.func.attr
    if method == "route":
        method = next(
            (word for keyword in node.keywords if keyword.arg == "methods" for word in _words(keyword.value)), "get"
        )
    text = _plain_path(path.value)
    if method.lower() not in METHODS or path.value in NO_WORK or any(sign in text for sign in " ?#"):
        return ""
    return f"{method.upper()} {text}"


def _words(node: ast.expr) -> list[str]:
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else []
    return [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def _plain_path(path: str) -> str:
    """Write ``{item:path}`` and Flask's ``<int:item>`` as ``{item}``."""
    parts = []
    for part in path.split("/"):
        if part.startswith("<") and part.endswith(">"):
            parts.append("{" + part[1:-1].rpartition(":")[2] + "}")
        elif part.startswith("{") and part.endswith("}"):
            parts.append("{" + part[1:-1].partition(":")[0] + "}")
        else:
            parts.append(part)
    return "/".join(parts)
