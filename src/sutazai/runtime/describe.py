"""Why it exists: the compiler needs the schemas of an agent's skills and must not run agent code in its own process.

``python -m sutazai.runtime.describe PATH…`` prints a JSON array, one entry a path:
``{"path", "name", "skills": [{"name", "description", "input", "output"}]}`` or ``{"path", "error": "text"}``. Each path
is imported in a process of its own, so that modules of the same name, ``sys.exit`` or a crash do not touch the others.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sutazai.runtime.loader import explain, load_agent

IMPORT_TIMEOUT_S = 60.0


def describe(path: Path) -> dict[str, Any]:
    """Import an agent here and describe it, or say why not."""
    try:
        return {"path": str(path), **load_agent(path).describe()}
    except BaseException as error:  # noqa: BLE001 agent code may raise anything, SystemExit too
        return {"path": str(path), "error": explain(error, path)}


def describe_apart(path: Path, timeout_s: float = IMPORT_TIMEOUT_S) -> dict[str, Any]:
    """Describe an agent in a forked process that is ended after ``timeout_s`` seconds."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(path, writer)
    os.close(writer)
    try:
        data = _read_all(reader, time.monotonic() + timeout_s)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if data is None:
        return {"path": str(path), "error": f"{path}: the import took longer than {timeout_s:.0f} s"}
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError:
        return {"path": str(path), "error": f"{path}: the process ended while it imported the agent"}
    return found


def _child(path: Path, writer: int) -> None:
    os.dup2(2, 1)  # what the module prints must not mix with our JSON
    try:
        data = json.dumps(describe(path)).encode()
        while data:
            data = data[os.write(writer, data) :]
    finally:
        sys.stderr.flush()
        os._exit(0)


def _read_all(reader: int, give_up_s: float) -> bytes | None:
    parts: list[bytes] = []
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while poller.poll(max(0, round((give_up_s - time.monotonic()) * 1_000))):
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def main(arguments: list[str]) -> int:
    """Describe the agents at the paths; the exit code is 0 also when some could not be described."""
    if not arguments:
        sys.stderr.write("usage: python -m sutazai.runtime.describe PATH…\n")
        return 2
    found = [describe_apart(Path(argument)) for argument in arguments]
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
