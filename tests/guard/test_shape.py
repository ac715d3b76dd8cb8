"""The code keeps its shape: sizes, docstrings, no unfinished places, no empty rooms, layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/sutazai"
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
MODULES = sorted(SOURCE.rglob("*.py"))


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def _route_or_verb(function: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> bool:
    """A verb of the command line has a parameter for each option; the framework reads them from the signature."""
    return path.parent.name == "cli" and bool(function.decorator_list or function.name == "run")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_keeps_the_house_sizes(path: Path) -> None:
    """No module, function or signature grows beyond what a reader holds in mind."""
    text = path.read_text()
    too_large = [f"{len(text.splitlines())} lines"] if len(text.splitlines()) > MODULE_LINES_MAX else []
    for function in _functions(ast.parse(text)):
        if _body_lines(function) > FUNCTION_LINES_MAX:
            too_large.append(f"{function.name}:{function.lineno} has {_body_lines(function)} lines")
        if _parameters(function) > PARAMETERS_MAX and not _route_or_verb(function, path):
            too_large.append(f"{function.name}:{function.lineno} has {_parameters(function)} parameters")
    assert not too_large


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_says_why_it_exists(path: Path) -> None:
    """Every module and package opens with a docstring of more than a label."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(docstring.split()) >= 6


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_is_finished(path: Path) -> None:
    """Nothing is marked as to be done, left out of checks without a reason, or a bare assert."""
    text = path.read_text()
    for mark in ("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error", "pragma: no " + "cover"):
        assert mark not in text
    assert not [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]
    for line in text.splitlines():
        if "# noqa" in line:
            assert ":" in line.split("# noqa", 1)[1], f"a blanket noqa: {line.strip()}"


def test_no_empty_rooms() -> None:
    """Every package holds a module with work in it; none is called core, util or common."""
    for package in {path.parent for path in MODULES}:
        assert package.name not in {"core", "util", "utils", "common", "helpers"}
        modules = [path for path in package.iterdir() if path.suffix == ".py" and path.name != "__init__.py"]
        nested = [path for path in package.iterdir() if (path / "__init__.py").is_file()]
        init = package / "__init__.py"
        assert modules or nested or len(init.read_text().splitlines()) > 15, f"{package} is empty"


def test_layers_hold() -> None:
    """The import contracts of pyproject.toml, each with its reason there, are kept."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_style_and_types_hold() -> None:
    """Ruff with all rules, its formatter, and mypy strict are clean."""
    bin_dir = Path(sys.executable).parent
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        done = subprocess.run(
            [str(bin_dir / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
