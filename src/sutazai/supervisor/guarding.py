"""Why it exists: a process becomes the guard by a new program: at the start, and when a guard was killed."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from sutazai.supervisor import fds, guard, spawn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai.supervisor.fds import FdStore

_NONE = -1


def exec_guard(plan_path: Path, pid_file: Path, fds_given: tuple[int, int], kept: dict[str, int]) -> NoReturn:
    """Replace this process, with all that it has imported, by the small guard; its children stay its children.

    Args:
        plan_path: the plan file.
        pid_file: where the guard writes who it is.
        fds_given: the fleet's lock, and where somebody waits for ``started``; -1 for none.
        kept: listening sockets by name, inheritable already.

    Raises:
        OSError: the interpreter cannot be started; nothing was changed.
    """
    for fd in fds_given:
        if fd >= 0:
            os.set_inheritable(fd, True)  # noqa: FBT003 the call takes no keyword
    arguments = [str(plan_path), str(pid_file), *map(str, fds_given)]
    arguments += [fds.write_kept(kept)] if kept else []
    os.execv(sys.executable, [sys.executable, "-I", "-S", guard.__file__, *arguments])  # noqa: S606 no shell is wanted


def replace_guard(
    plan_path: Path, pid_file: Path, lock_fd: int, store: FdStore, take_signals: Callable[[], None]
) -> NoReturn:
    """Become the guard in the place of one that was killed.

    Signals are the loop's until now. The next program begins with none of its handlers: an end that is asked for
    meanwhile waits, blocked, until the guard has its own; else it would end this process, and leave the fleet alone.

    Args:
        plan_path: the plan file.
        pid_file: where the guard writes who it is.
        lock_fd: the fleet's lock.
        store: listening sockets.
        take_signals: acts on those that have come already.

    Raises:
        OSError: the interpreter cannot be started; this process goes on as it was.
    """
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, guard.ENDS)
    take_signals()
    descriptors, wakeup_fd = resource.getrlimit(resource.RLIMIT_NOFILE), signal.set_wakeup_fd(_NONE)
    resource.setrlimit(resource.RLIMIT_NOFILE, spawn.DESCRIPTORS)  # what the fleet's processes will be given
    try:
        exec_guard(plan_path, pid_file, (lock_fd, _NONE), store.inheritable())
    finally:
        store.inheritable(on=False)
        if lock_fd >= 0:
            os.set_inheritable(lock_fd, False)  # noqa: FBT003 the call takes no keyword
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
        signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
