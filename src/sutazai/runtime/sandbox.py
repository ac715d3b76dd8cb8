"""Why it exists: code that somebody handed in is run, so it must reach neither the network nor anybody's files.

Three ways, the strongest that this machine allows; which one it was is part of every result:

* ``bubblewrap``: own namespaces; files are read-only; homes, ``/run``, ``/tmp`` and the fleet's state are hidden;
  only the given folder can be written.
* ``namespaces``: own user, process, message and network namespaces (no network device at all); files, and sockets that
  are files, are as for the instance's unprivileged user.
* ``user``: only the instance's unprivileged user and the kernel's limits. **The network can be reached.**

In all three: the instance's memory limit holds, limits of CPU time and file size, and an end when the time is over.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sutazai.paths import run_root, state_root
from sutazai.runtime.programs import Ran, limited, run
from sutazai.units import MIB

Confinement = Literal["bubblewrap", "namespaces", "user"]
TEXTS: dict[Confinement, str] = {
    "bubblewrap": "own namespaces, no network, read-only files, one writable folder",
    "namespaces": "own user, process and network namespaces, no network; files as for the instance's user",
    "user": "weak: only the instance's user and limits; the network can be reached. Install bubblewrap: "
    "apt-get install bubblewrap",
}
_PROBE_S = 10
_HIDDEN = ("/home", "/root", "/run", "/var/lib", "/mnt", "/media", "/srv", "/tmp", "/var/tmp")  # noqa: S108 hidden, not used


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a sandboxed program may take.

    Attributes:
        timeout_s: seconds of time on the clock.
        memory_bytes: private memory of each process; less than the instance's limit.
        file_bytes: size of the largest file.
    """

    timeout_s: float = 60.0
    memory_bytes: int = 176 * MIB
    file_bytes: int = 16 * MIB


@functools.cache
def confinement() -> Confinement:
    """Find the strongest way that works here, by trying it once."""
    bubble = shutil.which("bwrap")
    if bubble and _works([bubble, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true"]):
        return "bubblewrap"
    if (unshare := shutil.which("unshare")) and _works([*_unshared(unshare), "true"]):
        return "namespaces"
    return "user"


def run_python(arguments: list[str], folder: Path, bounds: Bounds) -> tuple[Ran, Confinement]:
    """Run the fleet's interpreter on handed-in code.

    Args:
        arguments: of the interpreter.
        folder: holds the code; the working folder, and what can be written.
        bounds: what it may take.

    Raises:
        MissingProgramError: the interpreter or the sandbox cannot be started.
    """
    way = confinement()
    inner = limited(
        [sys.executable, *arguments],
        memory_bytes=bounds.memory_bytes,
        cpu_s=max(1, round(bounds.timeout_s)),
        file_bytes=bounds.file_bytes,
    )
    env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return run([*_wrapped(way, folder), *inner], folder=folder, timeout_s=bounds.timeout_s, env=env), way


def _wrapped(way: Confinement, folder: Path) -> list[str]:
    if way == "bubblewrap":
        return _bubble(folder)
    if way == "namespaces":
        return _unshared(shutil.which("unshare") or "unshare")
    return []


def _bubble(folder: Path) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    hidden = {*_HIDDEN, str(state_root()), str(run_root())}
    for path in sorted(hidden):
        if Path(path).is_dir():
            command += ["--tmpfs", path]
    for path in sorted({sys.prefix, sys.base_prefix, *_package_folders()}):
        if not path.startswith("/usr"):
            command += ["--ro-bind", path, path]
    command += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
    return [*command, "--unshare-all", "--die-with-parent", "--new-session"]


def _package_folders() -> set[str]:
    return {os.path.realpath(Path(sys.executable).parent.parent), os.path.realpath(sys.base_prefix)}


def _unshared(program: str) -> list[str]:
    return [program, "--user", "--map-current-user", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--"]


def _works(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
