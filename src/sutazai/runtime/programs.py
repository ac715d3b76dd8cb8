"""Why it exists: an agent that works by a program finds it in one way, and says how to get it when it is missing.

A program comes from the machine (``PATH``), from the fleet's own environment, or from an environment of its own
beside it (``.venv/environments/NAME``, see docs/adr/0018). Without it the task fails at once: waiting installs nothing.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOLD_CHARACTERS_MAX = 400


class MissingProgramError(NonRetryableError):
    """A program or library that the skill works by is not installed; the message holds the command that installs it."""

    code = "unavailable"


class ProgramFailedError(NonRetryableError):
    """A program ended in a way that trying again does not mend: time or memory was over, or it refused the input."""

    code = "program-failed"


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program.

    Attributes:
        status: exit status; negative is the signal that ended it.
        out: standard output.
        told: standard error, the end of it.
        timed_out: whether it was ended because its time was over.
    """

    status: int
    out: bytes
    told: str
    timed_out: bool = False


def environment(name: str) -> Path:
    """Folder of an environment beside the fleet's own; it need not be there."""
    return Path(sys.prefix) / "environments" / name


def find(name: str, install: str) -> str:
    """Find a program: beside the interpreter, else on ``PATH``.

    Args:
        name: of the program.
        install: the command that installs it, for the message.

    Raises:
        MissingProgramError: it is not there.
    """
    beside = Path(sys.prefix) / "bin" / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise MissingProgramError(f"{name} is not installed here: run `{install}`")
    return found


def run(
    command: Sequence[str], *, folder: Path, timeout_s: float, env: Mapping[str, str] | None = None, give: bytes = b""
) -> Ran:
    """Run a program to its end in a folder, with few variables of the environment and no terminal.

    It lives in the instance's cgroup, so its memory is the instance's. When its time is over, it is ended with all that
    it started.

    Args:
        command: program and arguments.
        folder: to work in; its home and temporary folder too.
        timeout_s: seconds until it is ended.
        env: variables beyond the few.
        give: its standard input.

    Raises:
        MissingProgramError: it cannot be started.
    """
    full = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=full | dict(env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingProgramError(f"{command[0]} cannot be started: {error.strerror}") from error
    timed_out = False
    try:
        out, told = process.communicate(give, timeout=max(0.1, timeout_s))
    except subprocess.TimeoutExpired:
        timed_out = True
        _end(process)
        out, told = process.communicate()
    except BaseException:  # the turn was stopped: leave nothing behind
        _end(process)
        process.wait()
        raise
    return Ran(process.returncode, out, told.decode(errors="replace")[-_TOLD_CHARACTERS_MAX * 10 :], timed_out)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return


def short(text: str) -> str:
    """Cut what a program told to a length that fits an error's message."""
    clean = " ".join(text.split())
    return clean if len(clean) <= _TOLD_CHARACTERS_MAX else "…" + clean[-_TOLD_CHARACTERS_MAX:]


def limited(
    command: Sequence[str], *, memory_bytes: int, cpu_s: int, file_bytes: int, processes: int | None = None
) -> list[str]:
    """Put limits of the kernel before a command, by a short-lived interpreter that becomes the command.

    Args:
        command: program and arguments.
        memory_bytes: private memory of each process; asking for more fails inside of it, before the kernel kills.
        cpu_s: seconds of CPU time, then the kernel ends it.
        file_bytes: size of the largest file that it writes.
        processes: of its user, in all; ``None`` leaves it to the cgroup.
    """
    limits = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    if processes is not None:
        limits[resource.RLIMIT_NPROC] = processes
    code = (
        "import os,resource,sys\n"
        f"for n,v in {limits!r}.items(): resource.setrlimit(n,(v,v))\n"
        "os.execvp(sys.argv[1],sys.argv[1:])"
    )
    return [sys.executable, "-I", "-S", "-c", code, *command]
