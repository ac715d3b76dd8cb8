"""Why it exists: agent code runs as a user that may do little, and where that cannot be had, it is said and not hidden.

The order matters. The user id is dropped first, then nothing may be gained again, then the parent-death signal is set
(a change of the user id clears it), then the parent is looked at (it may have died before).
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from sutazai.runtime import kernel


def needed_paths(agent_file: Path) -> list[Path]:
    """List what an instance's user must be able to read: interpreter, libraries, this package, the agent."""
    import msgspec
    import pydantic

    import sutazai

    modules = [module.__file__ for module in (os, msgspec, pydantic, sutazai) if module.__file__]
    return [Path(sys.executable).resolve(), *map(Path, modules), agent_file]


def unreadable(paths: list[Path], uid: int) -> str:
    """Find the first path that a user cannot read, by being that user in a forked process.

    Returns:
        The path, or an empty text when all can be read.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            drop_user(uid)
            for path in paths:
                if not os.access(path, os.R_OK) or (os.path.isdir(path) and not os.access(path, os.X_OK)):  # noqa: PTH112 is_dir raises
                    os.write(writer, os.fsencode(path))
                    break
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        found = os.fsdecode(file.read())
    _, status = os.waitpid(pid, 0)
    return found if status == 0 else found or f"anything as user {uid}"


def drop_user(uid: int) -> None:
    """Become another user, in all three ids, without any group but its own.

    Raises:
        OSError: this process may not.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def confine(uid: int, parent_signal: int) -> None:
    """Make this process what an instance is allowed to be.

    Args:
        uid: user to become; 0 or less keeps the present one.
        parent_signal: sent to this process when its parent ends.

    Raises:
        OSError: the user cannot be changed.
    """
    if uid > 0:
        drop_user(uid)
    kernel.set_no_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kernel.set_parent_death_signal(parent_signal)
