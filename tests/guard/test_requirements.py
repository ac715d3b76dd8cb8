"""What `make run` installs is enough: the development environment must not hide a missing requirement."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sutazai"
#: The test kit is for the development environment.
NOT_SHIPPED = ("testing",)
#: Modules that only a fleet with these servers imports, and the group that it installs for them.
OPTIONAL = {
    "store/postgres.py": "postgres",
    "store/move.py": "postgres",
    "store/pipeline.py": "postgres",
    "bus/dispatch/rabbitmq.py": "rabbitmq",
    "wire/valkey.py": "valkey",
}


def imports(path: Path) -> set[str]:
    """Top names that a file imports, anywhere in it; what stands below TYPE_CHECKING is only for the type checker."""
    tree = ast.parse(path.read_text())
    unreal = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in set(ast.walk(tree)) - unreal:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def normal(name: str) -> str:
    """Write a distribution's name as the index does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(group: str) -> set[str]:
    """Distributions of a group."""
    text = (ROOT / f"requirements/{group}.txt").read_text()
    return {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def test_every_import_of_the_product_is_installed_by_make_run() -> None:
    """Each third-party module that the product imports comes from a group that `make run` installs, or its own."""
    groups = re.search(r"^RUN_GROUPS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert groups
    installed = set().union(*(pinned(group) for group in groups[1].split() if not group.startswith("env-")))
    providers = metadata.packages_distributions()
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] in NOT_SHIPPED:
            continue
        optional = OPTIONAL.get(str(path.relative_to(SOURCE)))
        allowed = installed | pinned(optional) if optional else installed
        for name in sorted(imports(path) - set(sys.stdlib_module_names) - {"sutazai"}):
            owners = {normal(owner) for owner in providers.get(name, [])}
            if owners and not owners & allowed:
                missing.append(f"{path.relative_to(ROOT)}: {name} of {', '.join(sorted(owners))}")
    assert not missing, missing
